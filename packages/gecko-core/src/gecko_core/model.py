"""The model: a transformer, mean pooling, cosine similarity, Matryoshka prefixes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gecko_core.encoding import encode_texts
from gecko_core.errors import ConfigError, ModelError
from gecko_core.folder import FolderConfig, read_folder, write_folder
from gecko_core.prompts import format_document, format_query
from gecko_core.resolve import Resolved, resolve


class Gecko(nn.Module):
    """A text embedding model. Build it with `from_pretrained` or `from_backbone`."""

    def __init__(self, backbone: Any, tokenizer: Any, settings: FolderConfig, truncate_dim: int | None = None):
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.settings = settings
        width = int(backbone.config.hidden_size)
        self.dims: tuple[int, ...] = tuple(sorted(settings.dims or (width,), reverse=True))
        if self.dims[0] != width:
            self.dims = (width, *(d for d in self.dims if d < width))
        if truncate_dim is not None and not 0 < truncate_dim <= width:
            raise ConfigError(f"truncate_dim={truncate_dim}: this model has {width} dimensions; cure: 1 to {width}")
        self.truncate_dim = truncate_dim

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        truncate_dim: int | None = None,
    ) -> Gecko:
        """Load a saved folder, a packaged model or a hub id. Raises `ModelError` in one line."""
        found = resolve(path_or_hub_id)
        backbone, tokenizer = _load(found, dtype)
        settings = read_folder(found.path) if found.path else FolderConfig(max_seq_length=512)
        model = cls(backbone, tokenizer, settings, truncate_dim)
        model.eval()
        return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @classmethod
    def from_backbone(
        cls, path_or_hub_id: str | Path, dims: Sequence[int] = (768, 256), max_seq_length: int = 512, **kwargs: Any
    ) -> Gecko:
        """A raw encoder as a Gecko model with the gecko prompts."""
        found = resolve(path_or_hub_id)
        backbone, tokenizer = _load(found, kwargs.get("dtype"))
        return cls(backbone, tokenizer, FolderConfig(max_seq_length, tuple(dims), "gecko"))

    @property
    def dim(self) -> int:
        """Dimensions of the embeddings that `encode` returns."""
        return self.truncate_dim or self.dims[0]

    @property
    def max_seq_length(self) -> int:
        return self.settings.max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        self.settings.max_seq_length = value

    @property
    def prompt_style(self) -> str:
        return self.settings.prompt_style

    @prompt_style.setter
    def prompt_style(self, value: str) -> None:
        if value not in ("gecko", "plain"):
            raise ConfigError(f"prompt_style '{value}': cure: 'gecko' or 'plain'")
        self.settings.prompt_style = value

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L), (B, L) -> (B, dim): mean over valid tokens, fp32, not normalised."""
        from gecko_kernels import masked_mean_pool

        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return masked_mean_pool(hidden, attention_mask).float()

    def format_queries(self, texts: Sequence[str], task: str = "search result") -> list[str]:
        return list(texts) if self.prompt_style == "plain" else [format_query(text, task) for text in texts]

    def format_documents(self, texts: Sequence[str], titles: Sequence[str | None] | None = None) -> list[str]:
        titles = titles if titles is not None else [None] * len(texts)
        if self.prompt_style == "plain":
            return [f"{title or ''} {text}".strip() for text, title in zip(texts, titles, strict=True)]
        return [format_document(text, title) for text, title in zip(texts, titles, strict=True)]

    def tokenize(self, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """Token ids with special tokens, cut to `max_length` (default `max_seq_length`)."""
        if not texts:
            return []
        return self.tokenizer(list(texts), truncation=True, max_length=max_length or self.max_seq_length)["input_ids"]

    def collate(self, ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Padded (B, L) `input_ids` and `attention_mask` on the model's device."""
        length = max(len(row) for row in ids)
        pad = self.tokenizer.pad_token_id or 0
        input_ids = torch.full((len(ids), length), pad, dtype=torch.long)
        mask = torch.zeros((len(ids), length), dtype=torch.long)
        for i, row in enumerate(ids):
            input_ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        return {"input_ids": input_ids.to(self.device), "attention_mask": mask.to(self.device)}

    def encode_queries(self, texts: Sequence[str], task: str = "search result", **options: Any) -> Any:
        return encode_texts(self, self.format_queries(texts, task), **options)

    def encode_documents(self, texts: Sequence[str], titles: Sequence[str | None] | None = None, **options: Any) -> Any:
        return encode_texts(self, self.format_documents(texts, titles), **options)

    def encode(self, texts: Sequence[str], task: str | None = None, **options: Any) -> Any:
        return encode_texts(self, list(texts) if task is None else self.format_queries(texts, task), **options)

    def similarity(self, a: Any, b: Any) -> Any:
        """(n, d), (m, d) -> (n, m) cosine of normalised embeddings."""
        return a @ b.T

    def truncate(self, embeddings: np.ndarray, dim: int) -> np.ndarray:
        cut = embeddings[:, :dim]
        return cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12)

    def weights_hash(self) -> str:
        digest = hashlib.sha256()
        for name, tensor in sorted(self.backbone.state_dict().items()):
            digest.update(name.encode())
            digest.update(str(tensor.dtype).encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def save_pretrained(
        self, path: str | Path, record: dict[str, Any] | None = None, dims: Sequence[int] | None = None
    ) -> None:
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        if record is not None:
            self.settings.record = record
        if dims is not None:
            self.dims = tuple(sorted(dims, reverse=True))
        self.backbone.save_pretrained(path)
        write_folder(
            path, config=self.backbone.config, tokenizer=self.tokenizer, dims=self.dims, settings=self.settings
        )


def _load(found: Resolved, dtype: torch.dtype | None) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(found.location)
        backbone = AutoModel.from_pretrained(found.location, dtype=dtype or torch.float32, use_safetensors=True)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"model '{found.name}' cannot be loaded: {first}; cure: check the name or folder") from error
    return backbone, tokenizer
