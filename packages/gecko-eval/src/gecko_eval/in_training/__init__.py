"""Evaluation that is fast enough for a training loop."""
