"""Fused kernels for embedding models: mean pooling over valid tokens and Matryoshka losses."""

from gecko_kernels.block_kl import block_kl_loss
from gecko_kernels.contrastive import same_tower_softmax_loss
from gecko_kernels.kl_list import kl_list_loss
from gecko_kernels.pooling import masked_mean_pool, packed_mean_pool

__all__ = ["block_kl_loss", "kl_list_loss", "masked_mean_pool", "packed_mean_pool", "same_tower_softmax_loss"]
__version__ = "1.0.0"
