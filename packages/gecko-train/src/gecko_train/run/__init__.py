"""Whole runs: the journey, ablations, model soups."""
