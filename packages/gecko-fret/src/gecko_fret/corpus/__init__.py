"""Corpora: passages, readers, splitting, cleaning, contamination."""
