"""Comparison and reporting of results."""
