"""Running the steps over parts on disk: pipeline, folder, fingerprints, cost, report."""
