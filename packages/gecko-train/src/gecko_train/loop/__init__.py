"""The training loop: trainer, gradient caching, parallelism, checkpoints, schedule."""
