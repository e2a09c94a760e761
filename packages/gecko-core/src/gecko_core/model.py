"""Gecko: a backbone, the mean over its tokens, and optionally a projection."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from gecko_core.backbones.families import DEFAULT_MAX_LENGTH, Adapter
from gecko_core.backbones.head import Dense, projection
from gecko_core.backbones.loading import load_backbone, load_tokenizer, local_folder
from gecko_core.backbones.widths import checked_dims, hidden_size
from gecko_core.devices import as_dtype, checked_device
from gecko_core.encode.batches import check_truncate_dim, encode_windows
from gecko_core.encode.cpu import Compute
from gecko_core.encode.packing import packed
from gecko_core.encode.quantize import Precision, Ranges, check_precision, quantize, ranges_of
from gecko_core.encode.texts import checked_max_length, checked_texts, padded, token_ids
from gecko_core.errors import ConfigError, ModelError
from gecko_core.folder.layout import Layout, own_settings, read_layout
from gecko_core.folder.resolve import resolve
from gecko_core.prompts import DEFAULT_TASK, format_document, format_query
from gecko_kernels import masked_mean_pool, packed_mean_pool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gecko_core.encode.stream import Row

PromptStyle = Literal["gecko", "plain"]


class Gecko(nn.Module):
    """A text embedder. Build it with `from_pretrained` (a saved model) or `from_backbone` (a fresh one).

    dim: width of the embeddings. dims: the Matryoshka widths it was trained for, descending, `dims[0] == dim`.
    prompt_style: "gecko" writes tasks and titles as the paper does; "plain" leaves texts alone, except for the `query`
    and `document` prefixes that a model of others may bring along.
    auto_bf16: let `encode*` compute in bf16 where the device is fast at it and the vectors keep a cosine of 0.9995 to
    fp32's (the weights stay as they are). calibration: ranges for int8, by width.
    padding_free: let `encode*` and training lay texts end to end where the backbone can; None means on a CPU, where it
    is faster.
    """

    def __init__(
        self,
        backbone: nn.Module,
        adapter: Adapter,
        tokenizer: Any,
        *,
        head: Sequence[Dense] = (),
        dims: Sequence[int] | None = None,
        max_seq_length: int | None = None,
        prompt_style: PromptStyle = "gecko",
        prompts: dict[str, str] | None = None,
        do_lower_case: bool = False,
        base_model: str | None = None,
        truncate_dim: int | None = None,
        auto_bf16: bool = True,
        calibration: dict[int, Ranges] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.adapter = adapter
        self.tokenizer = tokenizer
        self.head = nn.ModuleList(head)
        config: Any = backbone.config
        self.hidden_size = hidden_size(config)
        self.dim: int = head[-1].linear.out_features if head else self.hidden_size
        self.dims = checked_dims(dims or (self.dim,), self.dim)
        limit = adapter.max_length(config)
        wanted = max_seq_length or DEFAULT_MAX_LENGTH
        self.max_seq_length = min(wanted, limit) if limit else wanted
        self.prompt_style: PromptStyle = prompt_style
        self.prompts = dict(prompts or {})
        self.do_lower_case = do_lower_case
        self.base_model = base_model
        self.truncate_dim = truncate_dim
        check_truncate_dim(truncate_dim, self.dim)
        self.auto_bf16 = auto_bf16
        self.padding_free: bool | None = None
        self.calibration: dict[int, Ranges] = dict(calibration or {})
        # What half.autocast found out: (state of the weights, whether bf16 keeps the vectors).
        self.bf16_checked: tuple[Any, bool] | None = None
        self.eval()

    # Building and saving

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        truncate_dim: int | None = None,
    ) -> Gecko:
        """Loads a Gecko folder, or any sentence-transformers folder with mean pooling, old schema or new.

        name: a folder, a packaged model, or a hub id. device: the GPU where there is one, else the CPU. dtype: of the
        weights; None means fp32 weights with automatic bf16 in `encode*`, an explicit fp32 means fp32 throughout.
        truncate_dim: default width of the embeddings. Raises `ModelError`, `ConfigError`.
        """
        where = checked_device(device)
        resolved = resolve(name)
        folder = local_folder(resolved)
        layout = read_layout(folder)
        backbone, adapter = load_backbone(layout.transformer, as_dtype(dtype))
        model = cls(
            backbone,
            adapter,
            load_tokenizer(layout.transformer),
            head=[Dense.load(spec).to(dtype=as_dtype(dtype)) for spec in layout.dense],
            max_seq_length=layout.max_seq_length,
            do_lower_case=layout.do_lower_case,
            prompts=layout.prompts,
            truncate_dim=truncate_dim,
            base_model=resolved.name if resolved.path is None else resolved.path.name,
            auto_bf16=dtype is None,
            **own_settings(layout, folder),
        )
        return model.to(where)

    @classmethod
    def from_backbone(
        cls,
        name: str | Path,
        dims: Sequence[int] = (768, 256),
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        max_seq_length: int | None = None,
        seed: int = 0,
    ) -> Gecko:
        """A fresh embedder on an encoder, a T5 encoder, or a language model made bidirectional.

        dims: Matryoshka widths; where the largest is not the backbone's own width, a linear projection to it is added,
        seeded by `seed`. max_seq_length: 512 (or what a sentence-transformers folder says), capped by the backbone.
        """
        where = checked_device(device)
        resolved = resolve(name)
        folder = local_folder(resolved)
        known = read_layout(folder) if (folder / "modules.json").is_file() else Layout(transformer=folder)
        backbone, adapter = load_backbone(known.transformer, as_dtype(dtype), resolved.gguf_file)
        config: Any = backbone.config
        width = hidden_size(config)
        largest = checked_dims(dims)[0]
        head = [] if largest == width else [projection(width, largest, seed).to(dtype=as_dtype(dtype))]
        model = cls(
            backbone,
            adapter,
            load_tokenizer(known.transformer, resolved.gguf_file),
            head=head,
            dims=dims,
            max_seq_length=max_seq_length or known.max_seq_length,
            do_lower_case=known.do_lower_case,
            base_model=resolved.name if resolved.path is None else resolved.path.name,
            auto_bf16=dtype is None,
        )
        return model.to(where)

    def save_pretrained(
        self, path: str | Path, record: dict[str, Any] | None = None, dims: Sequence[int] | None = None
    ) -> Path:
        """Writes the folder that sentence-transformers, transformers, vLLM and text-embeddings-inference read.

        record: how the model was made (anything JSON takes); goes into gecko.json and the model card. dims: Matryoshka
        widths to announce, `self.dims` by default. An earlier model at `path` is replaced, whole or not at all.
        """
        from gecko_core.folder.saving import write_folder

        write_folder(self, Path(path), record, checked_dims(dims, self.dim) if dims else self.dims)
        return Path(path)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Saves and uploads the model; see `gecko_core.folder.hub.push_to_hub`."""
        from gecko_core.folder.hub import push_to_hub

        return push_to_hub(self, repo_id, **options)

    # Forward

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        rows: Sequence[Sequence[int]] | None = None,
    ) -> Tensor:
        """Right-padded (B, L) ids and mask, or token ids of B texts -> (B, dim) embeddings, not normalised.

        rows: best sorted by length; without padding and with the faster products of `gecko_core.encode.cpu` where that
        pays. Both forms take gradients and go through a wrapper for data parallelism.
        """
        if rows is not None:
            return self._forward_rows(rows)
        if input_ids is None or attention_mask is None:
            raise ConfigError("forward needs input_ids and attention_mask, or rows")
        hidden = self.adapter.hidden_states(self.backbone, input_ids, attention_mask)
        return self._headed(cast(Tensor, masked_mean_pool(hidden, attention_mask)))

    def _forward_rows(self, rows: Sequence[Sequence[int]]) -> Tensor:
        if self.runs_packed:
            return self.forward_packed(rows)
        # Gradient checkpointing and compilation compute outside of the block, where its replacements do not reach.
        with nullcontext() if self._recomputes or self._compiled else Compute():
            return self.forward(**self.collate(rows))

    def forward_packed(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Token ids of B texts, best sorted by length -> (B, dim), without padding; otherwise as `forward`.

        Raises `ModelError` for a backbone that needs padding (`can_pack`).
        """
        if not self.can_pack:
            raise ModelError(f"{self.backbone.config.model_type}: this backbone cannot run without padding")
        config: Any = self.backbone.config
        batch = packed(rows, self.vocabulary, self.device, self.adapter.padding_position(config), 128)
        hidden = self.adapter.packed_states(self.backbone, batch)
        return self._headed(cast(Tensor, packed_mean_pool(hidden, batch.bounds)))

    @property
    def can_pack(self) -> bool:
        """Whether `forward_packed` works: not for T5 and MPNet, nor where attention or compilation was changed."""
        return not self._compiled and self.adapter.packs(self.backbone.config)

    @property
    def runs_packed(self) -> bool:
        """Whether token ids go without padding: `padding_free`, or on a CPU, where the backbone can."""
        wanted = self.padding_free if self.padding_free is not None else self.device.type == "cpu"
        return wanted and self.can_pack and not self._recomputes

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

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def gradient_checkpointing(self, enabled: bool = True) -> None:
        """Recomputes the backbone's layers in the backward pass: less memory, more time. Raises `ModelError`."""
        backbone: Any = self.backbone
        if enabled and not backbone.supports_gradient_checkpointing:
            raise ModelError(f"{backbone.config.model_type}: transformers has no gradient checkpointing for it")
        if enabled:
            backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        else:
            backbone.gradient_checkpointing_disable()

    # Texts to tokens

    def format_queries(self, texts: Sequence[str], task: str = DEFAULT_TASK) -> list[str]:
        """Queries (and both sides of symmetric tasks) as the model wants to read them."""
        checked = checked_texts(texts, "query")
        if self.prompt_style == "plain":
            prefix = self.prompts.get("query", "")
            return [prefix + text for text in checked]
        return [format_query(text, task) for text in checked]

    def format_documents(self, texts: Sequence[str], titles: Sequence[str | None] | None = None) -> list[str]:
        """Documents as the model wants to read them; a plain model gets title and text in one line, as mteb does."""
        checked = checked_texts(texts, "document")
        if titles is not None and len(titles) != len(checked):
            raise ConfigError(
                f"{len(checked)} documents but {len(titles)} titles; give one (or None) for each document"
            )
        named = titles if titles is not None else [None] * len(checked)
        given = checked_texts([title or "" for title in named], "title")
        if self.prompt_style == "plain":
            prefix = self.prompts.get("document", "")
            return [prefix + f"{title} {text}".strip() for title, text in zip(given, checked, strict=True)]
        return [format_document(text, title) for title, text in zip(given, checked, strict=True)]

    def tokenize(self, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """Token ids with special tokens, cut to `max_length` (at most `max_seq_length`)."""
        length = checked_max_length(max_length, self.max_seq_length)
        return token_ids(self.tokenizer, checked_texts(texts), length, self.do_lower_case)

    def collate(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Token ids -> right-padded `input_ids` and `attention_mask` (B, L) on the model's device."""
        return padded(rows, self.tokenizer.pad_token_id or 0, self.vocabulary, self.device)

    @property
    def vocabulary(self) -> int:
        """Rows of the backbone's token embeddings."""
        backbone: Any = self.backbone
        return int(backbone.get_input_embeddings().weight.shape[0])

    # Texts to vectors

    def encode(
        self,
        texts: Sequence[str] | str,
        task: str | None = None,
        *,
        batch_tokens: int | None = None,
        progress: bool = False,
        truncate_dim: int | None = None,
        output: Literal["numpy", "torch"] = "numpy",
        precision: Precision = "float32",
        devices: Sequence[str] | None = None,
    ) -> Any:
        """Texts as they are, or with `task` in the symmetric format -> (n, dim) float32, rows of unit length.

        batch_tokens: tokens per forward pass, padding included. truncate_dim: keep this many leading components and
        normalise again. output: a numpy array, or a tensor on the model's device. precision: "int8" (n, dim) by the
        calibrated ranges, "binary" (n, dim / 8) uint8. devices: one process for each, such as ["cuda:0", "cuda:1"]
        (for more than one call, keep an `EncoderPool`). A single str gives a single vector.
        Raises `DataError`, `ConfigError`; `ModelError` where the vectors are not finite.
        """
        if isinstance(texts, str):
            one: dict[str, Any] = {"batch_tokens": batch_tokens, "progress": progress, "truncate_dim": truncate_dim}
            return self.encode([texts], task, output=output, precision=precision, devices=devices, **one)[0]
        if output not in ("numpy", "torch"):
            raise ConfigError(f"output must be 'numpy' or 'torch', not {output!r}")
        check_precision(precision)
        dressed = checked_texts(texts) if task is None else self.format_queries(texts, task)
        width = truncate_dim if truncate_dim is not None else self.truncate_dim
        check_truncate_dim(width, self.dim)
        ranges = self._ranges(width or self.dim) if precision == "int8" else None
        if devices:
            from gecko_core.encode.pool import EncoderPool

            with EncoderPool(self, devices) as pool:
                found = torch.from_numpy(
                    pool.encode(dressed, batch_tokens=batch_tokens, truncate_dim=width, progress=progress)
                )
        else:
            windows = list(
                encode_windows(self, dressed, batch_tokens=batch_tokens, progress=progress, truncate_dim=width)
            )
            found = torch.cat(windows) if windows else torch.empty(0, width or self.dim, device=self.device)
        if precision != "float32":
            found = torch.from_numpy(quantize(found.cpu().numpy(), precision, ranges)).to(found.device)
        return found.to(self.device) if output == "torch" else found.cpu().numpy()

    def encode_queries(self, texts: Sequence[str] | str, task: str = DEFAULT_TASK, **options: Any) -> Any:
        """Queries of `task` -> (n, dim) float32, rows of unit length. Options as in `encode`."""
        if isinstance(texts, str):
            return self.encode_queries([texts], task, **options)[0]
        return self.encode(self.format_queries(texts, task), **options)

    def encode_documents(
        self, texts: Sequence[str] | str, titles: Sequence[str | None] | str | None = None, **options: Any
    ) -> Any:
        """Documents with their titles -> (n, dim) float32, rows of unit length. Options as in `encode`."""
        if isinstance(texts, str):
            return self.encode_documents([texts], [titles] if isinstance(titles, str) else titles, **options)[0]
        return self.encode(self.format_documents(texts, titles), **options)

    def encode_stream(self, rows: Iterable[str | Row], path: str | Path, **options: Any) -> int:
        """An iterator of any length -> a .npy (for numpy's memory map) or .parquet file (`encode_stream`)."""
        from gecko_core.encode.stream import encode_stream

        return encode_stream(self, rows, path, **options)

    def calibrate(self, texts: Sequence[str], **options: Any) -> None:
        """Learns the int8 ranges of every Matryoshka width from `texts`; they are saved with the model."""
        vectors = self.encode(texts, **{**options, "truncate_dim": self.dim})
        self.calibration = {dim: ranges_of(self.truncate(vectors, dim)) for dim in self.dims}

    def _ranges(self, dim: int) -> Ranges:
        if dim not in self.calibration:
            known = f"; there are ranges for {', '.join(map(str, self.calibration))}" if self.calibration else ""
            raise ConfigError(f"no int8 ranges for width {dim}{known}: call model.calibrate(texts) and save the model")
        return self.calibration[dim]

    def similarity(self, a: np.ndarray | Tensor, b: np.ndarray | Tensor) -> Any:
        """Cosine similarities of (n, d) and (m, d) -> (n, m), of the kind of `a`."""
        left, right = (torch.as_tensor(x).float() for x in (a, b))
        scores = normalize(left, dim=-1) @ normalize(right.to(left.device), dim=-1).T
        return scores if isinstance(a, Tensor) else scores.cpu().numpy()

    def truncate(self, embeddings: np.ndarray | Tensor, dim: int) -> Any:
        """The first `dim` components, normalised again: (n, d) -> (n, dim), of the kind of `embeddings`."""
        check_truncate_dim(dim, embeddings.shape[-1])
        cut = normalize(torch.as_tensor(embeddings)[..., :dim].float(), dim=-1)
        return cut if isinstance(embeddings, Tensor) else cut.cpu().numpy()

    def weights_hash(self) -> str:
        """sha256 over all weights, by name, as fp32: the same before saving and after loading. Serves as a revision."""
        digest = hashlib.sha256()
        for name, value in sorted(self.named_parameters()):
            digest.update(f"{name}:{tuple(value.shape)};".encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()
