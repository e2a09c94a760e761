"""The network under a Gecko: a backbone, the mean over its tokens, and optionally a projection."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from gecko_core.backbones.base import Adapter, hidden_size
from gecko_core.backbones.finite import check_finite
from gecko_core.encode.cpu import Compute
from gecko_core.encode.memory import keep_freed_memory
from gecko_core.encode.packing import packed
from gecko_core.encode.texts import padded
from gecko_core.errors import ConfigError, ModelError
from gecko_core.head import Dense
from gecko_kernels import masked_mean_pool, packed_mean_pool


class Network(nn.Module):
    """Token ids to pooled vectors, trainable like any ``nn.Module``.

    Args:
        backbone: a bare Hugging Face model.
        adapter: runs it.
        head: the projection.
        pad_id: token id that fills padded batches.

    Attributes:
        hidden_size: width of the backbone.
        dim: width of the embeddings.
        padding_free: lay texts end to end where the backbone can; None means on a CPU, where it is faster.
    """

    def __init__(self, backbone: nn.Module, adapter: Adapter, head: Sequence[Dense] = (), pad_id: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        self.adapter = adapter
        self.head = nn.ModuleList(head)
        self.hidden_size = hidden_size(backbone.config)
        self.dim: int = head[-1].linear.out_features if head else self.hidden_size
        self.padding_free: bool | None = None
        self._pad_id = pad_id

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        rows: Sequence[Sequence[int]] | None = None,
    ) -> Tensor:
        """Embed a batch; both forms take gradients and go through a wrapper for data parallelism.

        Args:
            input_ids: right-padded token ids, (B, L).
            attention_mask: 1 for tokens, 0 for padding, (B, L).
            rows: token ids of B texts instead, best sorted by length. They run without padding and with the faster
                products of :mod:`gecko_core.encode.cpu` where that pays.

        Returns:
            (B, dim), not normalised.

        Raises:
            ConfigError: neither form is complete.
        """
        if rows is not None:
            return self._forward_rows(rows)
        if input_ids is None or attention_mask is None:
            raise ConfigError("forward needs input_ids and attention_mask, or rows")
        hidden = self.adapter.hidden_states(self.backbone, input_ids, attention_mask)
        return self._headed(cast(Tensor, masked_mean_pool(hidden, attention_mask)))

    def _forward_rows(self, rows: Sequence[Sequence[int]]) -> Tensor:
        if self.device.type == "cpu":
            keep_freed_memory()
        if self.runs_packed:
            return self.forward_packed(rows)
        # Gradient checkpointing and compilation compute outside the block, where its replacements do not reach.
        with nullcontext() if self._recomputes or self._compiled else Compute():
            return self.forward(**self.collate(rows))

    def forward_packed(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Embed a batch without padding; otherwise as :meth:`forward`.

        Args:
            rows: token ids of B texts, best sorted by length.

        Returns:
            (B, dim), not normalised.

        Raises:
            ModelError: the backbone needs padding (``can_pack``).
        """
        config: Any = self.backbone.config
        if not self.can_pack:
            raise ModelError(f"{config.model_type}: this backbone cannot run without padding")
        position = self.adapter.padding_position(config)
        batch = packed(rows, self.vocabulary, self.device, position, few_shapes=True)
        hidden = self.adapter.packed_states(self.backbone, batch)
        return self._headed(cast(Tensor, packed_mean_pool(hidden, batch.bounds)))

    def collate(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Pad token ids to ``input_ids`` and ``attention_mask`` (B, L) on the model's device."""
        return padded(rows, self._pad_id, self.vocabulary, self.device)

    @property
    def can_pack(self) -> bool:
        """Whether :meth:`forward_packed` works.

        Not for T5, nor with other attention than PyTorch's, nor compiled; for MPNet without gradients on a CPU only.
        """
        return not self._compiled and (self.adapter.packs(self.backbone.config) or self.adapter.fuses(self.backbone))

    @property
    def runs_packed(self) -> bool:
        """Whether ``rows`` go without padding: ``padding_free``, or on a CPU, where the backbone can."""
        wanted = self.padding_free if self.padding_free is not None else self.device.type == "cpu"
        return wanted and self.can_pack and not self._recomputes

    @property
    def vocabulary(self) -> int:
        """Rows of the backbone's token embeddings."""
        backbone: Any = self.backbone
        return int(backbone.get_input_embeddings().weight.shape[0])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.parameters()).dtype

    def gradient_checkpointing(self, enabled: bool = True) -> None:
        """Recompute the backbone's layers in the backward pass: less memory, more time.

        Args:
            enabled: False turns it off.

        Raises:
            ModelError: transformers has none for this backbone.
        """
        backbone: Any = self.backbone
        if enabled and not backbone.supports_gradient_checkpointing:
            raise ModelError(f"{backbone.config.model_type}: transformers has no gradient checkpointing for it")
        if enabled:
            backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        else:
            backbone.gradient_checkpointing_disable()

    def weights_hash(self) -> str:
        """sha256 over all weights, by name, as fp32: the same before saving and after loading. Serves as a revision."""
        digest = hashlib.sha256()
        for name, value in sorted(self.named_parameters()):
            digest.update(f"{name}:{tuple(value.shape)};".encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def check_finite(self, where: str | Path) -> None:
        """Make sure that every weight is a number; on several ranks each looks at its own shards.

        Args:
            where: what the weights are about to become, for the message.

        Raises:
            ModelError: some are NaN or infinite.
        """
        check_finite(self, where, "nothing is saved")

    @property
    def _compiled(self) -> bool:
        return bool(getattr(self.backbone, "_compiled_call_impl", None)) or hasattr(self.backbone, "_orig_mod")

    @property
    def _recomputes(self) -> bool:
        checkpointing = getattr(self.backbone, "is_gradient_checkpointing", False)
        return bool(checkpointing) and self.training and torch.is_grad_enabled()

    def _headed(self, pooled: Tensor) -> Tensor:
        for layer in self.head:
            pooled = layer(pooled.to(layer.linear.weight.dtype))
        return pooled
