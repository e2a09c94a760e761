"""Training data: rows, sources, mixture, streams."""
