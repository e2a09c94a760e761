"""Sources: where training rows come from; one file per kind."""
