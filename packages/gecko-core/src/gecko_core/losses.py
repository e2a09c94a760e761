"""The contrastive loss of gecko-kernels, for packages that stand on gecko-core alone."""

from gecko_kernels import same_tower_softmax_loss

__all__ = ["same_tower_softmax_loss"]
