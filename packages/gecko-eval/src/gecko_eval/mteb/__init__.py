"""Evaluation through mteb: tasks, encoder, runs."""
