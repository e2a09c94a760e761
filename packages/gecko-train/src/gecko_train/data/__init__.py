"""Training data: rows, sources and adapters, the mixture, streams, the held-out test."""
