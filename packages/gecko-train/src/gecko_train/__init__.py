"""Training of Gecko embedding models: rows, mixture, objective, trainer, and recipes from a corpus to a model."""

__version__ = "0.1.0"
