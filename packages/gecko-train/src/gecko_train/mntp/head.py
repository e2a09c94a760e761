"""The language model's head, needed here only, and its loss without a tensor of tokens times vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gecko_core import Gecko
from gecko_core.backbones import output_weight
from gecko_core.errors import ConfigError
from gecko_core.folder import local_folder, resolve

#: Rows of the vocabulary that logits are computed for at once.
CHUNK = 8192


@dataclass(frozen=True)
class LanguageHead:
    """What turns a hidden state into logits.

    Attributes:
        weight: (V, D).
        cap: logits are ``cap * tanh(logits / cap)`` (Gemma 2); None: as they are.
    """

    weight: Tensor
    cap: float | None = None

    @classmethod
    def of(cls, model: Gecko, source: str) -> LanguageHead:
        """The head of a language model that was made an embedder.

        Args:
            model: the embedder; a head that is tied to its token embeddings is theirs.
            source: what it was loaded from (a folder, a packaged model, a hub id), for a head of its own.

        Raises:
            ConfigError: the backbone is no language model.
            ModelError: the head cannot be read.
        """
        backbone: Any = model.backbone
        config = backbone.config
        if not is_language_model(config):
            raise ConfigError(
                f"mntp: {config.model_type} is no language model whose causal mask was lifted; give student.model one "
                "(llama, mistral, qwen2, qwen3, gemma)"
            )
        if config.tie_word_embeddings:
            weight = backbone.get_input_embeddings().weight
        else:
            resolved = resolve(source)
            weight = output_weight(local_folder(resolved), resolved.gguf_file).to(model.device, model.dtype)
        return cls(weight, getattr(config, "final_logit_softcapping", None))


def is_language_model(config: Any) -> bool:
    """Whether a backbone's config is that of a language model made bidirectional (``DecoderAdapter.prepare``)."""
    return getattr(config, "is_causal", None) is False or getattr(config, "use_bidirectional_attention", False) is True


def token_losses(hidden: Tensor, head: LanguageHead, targets: Tensor, chunk: int = CHUNK) -> Tensor:
    """Cross-entropy of tokens: -log softmax(cap(hidden @ weight.T))[target], in chunks of the vocabulary.

    No more than N x chunk logits exist at once; they are computed again for the gradient.

    Args:
        hidden: (N, D) hidden states.
        head: (V, D) weight; gets a gradient where it wants one.
        targets: (N,) int64 token ids.
        chunk: rows of the vocabulary at once.

    Returns:
        (N,) float32, nats.
    """
    losses: Tensor = _TokenLosses.apply(hidden, head.weight, targets, head.cap, chunk)
    return losses


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, cap: float | None, chunk: int
    ) -> Tensor:  # fmt: skip
        total = torch.full((len(hidden),), -torch.inf, dtype=torch.float32, device=hidden.device)
        own = torch.zeros_like(total)
        for start in range(0, len(weight), chunk):
            logits = _logits(hidden, weight[start : start + chunk], cap)
            total = torch.logaddexp(total, logits.logsumexp(1))
            here, columns = _in_chunk(targets, start, logits.shape[1])
            own = torch.where(here, logits.gather(1, columns[:, None])[:, 0], own)
        ctx.save_for_backward(hidden, weight, targets, total)
        ctx.cap, ctx.chunk = cap, chunk
        return total - own

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        hidden, weight, targets, total = ctx.saved_tensors
        upstream = gradients[0].float()
        to_hidden = torch.zeros_like(hidden, dtype=torch.float32)
        to_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for start in range(0, len(weight), ctx.chunk):
            rows = weight[start : start + ctx.chunk]
            logits = _logits(hidden, rows, ctx.cap)
            gradient = torch.exp(logits - total[:, None])
            here, columns = _in_chunk(targets, start, logits.shape[1])
            gradient[here, columns[here]] -= 1
            gradient *= upstream[:, None]
            if ctx.cap is not None:
                gradient *= 1 - (logits / ctx.cap) ** 2
            gradient = gradient.to(hidden.dtype)
            to_hidden += (gradient @ rows.to(hidden.dtype)).float()
            if to_weight is not None:
                to_weight[start : start + ctx.chunk] = (gradient.T @ hidden).to(weight.dtype)
        return to_hidden.to(hidden.dtype), to_weight, None, None, None


def _logits(hidden: Tensor, rows: Tensor, cap: float | None) -> Tensor:
    with torch.autocast(hidden.device.type, enabled=False):
        logits = (hidden @ rows.to(hidden.dtype).T).float()
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _in_chunk(targets: Tensor, start: int, size: int) -> tuple[Tensor, Tensor]:
    """Which targets are in the chunk, and their columns there; 0 for the others."""
    columns = targets - start
    here = (columns >= 0) & (columns < size)
    return here, torch.where(here, columns, 0)
