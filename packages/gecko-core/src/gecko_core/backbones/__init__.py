"""Backbones: one adapter per family, and how their weights are loaded."""
