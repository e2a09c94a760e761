"""Judged data on disk: BEIR folders, CSV tables, labelled texts."""
