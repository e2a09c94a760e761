"""Gecko: texts to vectors and back to a folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from gecko_core.backbones.base import DEFAULT_MAX_LENGTH, Adapter, hidden_size
from gecko_core.backbones.files import is_given
from gecko_core.backbones.loading import load_backbone, load_tokenizer
from gecko_core.devices import as_dtype, checked_device
from gecko_core.encode.batches import encode_windows
from gecko_core.encode.identity import model_identity
from gecko_core.encode.pool import EncoderPool, device_names
from gecko_core.encode.precision import check_int8
from gecko_core.encode.quantization import (
    Precision,
    Ranges,
    check_precision,
    check_truncate_dim,
    checked_dims,
    quantize,
    ranges_of,
)
from gecko_core.encode.stream import encode_stream
from gecko_core.encode.texts import checked_max_length, checked_texts, token_ids
from gecko_core.enriched import enriched_texts
from gecko_core.errors import ConfigError
from gecko_core.folder.hub import local_folder, push_to_hub
from gecko_core.folder.layout import Layout, check_files, gecko_settings, read_layout
from gecko_core.folder.names import resolve
from gecko_core.folder.saving import write_folder
from gecko_core.head import Dense, projection
from gecko_core.network import Network
from gecko_core.numbers import is_whole
from gecko_core.prompts import DEFAULT_TASK, format_document, format_query
from gecko_core.sequences import check_list
from gecko_core.vectors import unit_vectors

if TYPE_CHECKING:
    from gecko_core.encode.rows import Row
    from gecko_core.io import Progress

PromptStyle = Literal["gecko", "plain"]


_LARGEST = 2**31 - 1


class Gecko(Network):
    """A text embedder. Build it with ``from_pretrained`` (a saved model) or ``from_backbone`` (a fresh one).

    Args:
        backbone: a bare Hugging Face model.
        adapter: runs it.
        tokenizer: the backbone's.
        head: the projection.
        dims: see Attributes.
        max_seq_length: most tokens of a text; 512 by default, capped by the backbone.
        prompt_style: see Attributes.
        prompts: see Attributes.
        do_lower_case: lower-case texts before they are tokenised.
        base_model: what the model started from, for its card.
        truncate_dim: default width of the embeddings.
        auto_bf16: see Attributes.
        calibration: see Attributes.
        int8: see Attributes.

    Attributes:
        dims: the Matryoshka widths the model was trained for, descending; ``dims[0] == dim``.
        prompt_style: "gecko" writes tasks and titles as the paper does; "plain" leaves texts alone, except for prefixes
            of its own.
        prompts: prefixes by name (``query``, ``document``) that a third-party model came with.
        auto_bf16: let ``encode*`` compute in bf16 where the device is fast at it and the vectors keep a cosine of
            0.9995 to fp32's; the weights stay as they are.
        calibration: ranges of int8 embeddings, by width.
        int8: let ``encode*`` multiply in int8 (:mod:`gecko_core.encode.int8`); the weights stay as they are.
        bf16_checked: what ``probed_autocast`` found out: (state of the weights, whether bf16 keeps the vectors).
        int8_checked: the same for int8: (state of the weights, ranges of the layers' inputs).
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
        int8: bool = False,
    ) -> None:
        super().__init__(backbone, adapter, head, tokenizer.pad_token_id or 0)
        self.tokenizer = tokenizer
        self.dims = checked_dims((self.dim,) if dims is None else dims, self.dim)
        limit = adapter.max_length(backbone.config)
        wanted = int(max_seq_length or DEFAULT_MAX_LENGTH)
        self.max_seq_length = min(wanted, limit) if limit else wanted
        self.prompt_style: PromptStyle = prompt_style
        self.prompts = dict(prompts or {})
        self.do_lower_case = do_lower_case
        self.base_model = base_model
        self.truncate_dim = truncate_dim
        check_truncate_dim(truncate_dim, self.dim)
        self.auto_bf16 = auto_bf16
        self.calibration: dict[int, Ranges] = dict(calibration or {})
        self.int8 = int8
        self.bf16_checked: tuple[Any, bool] | None = None
        self.int8_checked: tuple[Any, Any] | None = None
        self.eval()

    def train(self, mode: bool = True) -> Gecko:
        """As of ``torch.nn.Module``. Ranges of int8 embeddings are of weights that are about to change, and go."""
        if mode:
            self.calibration = {}
        super().train(mode)
        return self

    # Building and saving

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        truncate_dim: int | None = None,
    ) -> Gecko:
        """Load a Gecko folder, or any sentence-transformers folder with mean pooling, old schema or new.

        ``encode_queries`` and ``encode_documents`` of such a folder are sentence-transformers' ``encode_query`` and
        ``encode_document``. ``encode`` adds no prompt; sentence-transformers adds that of ``default_prompt_name``.

        Args:
            name: a folder, a packaged model, or a hub id.
            device: the GPU where there is one, else the CPU.
            dtype: of the weights; None means fp32 weights with automatic bf16 in ``encode*``, an explicit fp32 means
                fp32 throughout. "int8" is fp32 weights with int8 products in ``encode*``, on x86 CPUs with VNNI and for
                encoders of BERT's kind: faster than bf16, with vectors at a cosine of about 0.99 to fp32's.
            truncate_dim: default width of the embeddings.

        Raises:
            ModelError: the folder cannot be found, read or understood.
            ConfigError: an argument that cannot be used.
        """
        int8, dtype = dtype == "int8", "float32" if dtype == "int8" else dtype
        where = checked_device("cpu" if int8 and device is None else device)
        resolved = resolve(name)
        folder = local_folder(resolved)
        layout = read_layout(folder)
        layout.check_cosine(folder)
        foreign = layout.gecko is None
        backbone, adapter = load_backbone(layout.transformer, as_dtype(dtype), as_published=foreign)
        layout.check_widths(folder, hidden_size(backbone.config))
        model = cls(
            backbone,
            adapter,
            load_tokenizer(layout.transformer, as_published=True),
            head=[Dense.load(spec).to(dtype=as_dtype(dtype)) for spec in layout.dense],
            max_seq_length=layout.max_seq_length or (adapter.max_length(backbone.config) if foreign else None),
            do_lower_case=layout.do_lower_case,
            prompts=layout.prompts,
            truncate_dim=layout.truncate_dim if truncate_dim is None else truncate_dim,
            base_model=resolved.name if resolved.path is None else resolved.path.name,
            auto_bf16=dtype is None,
            int8=int8,
            **gecko_settings(layout, folder),
        ).to(where)
        check_files(layout, folder)
        if int8:
            check_int8(model)
        return model

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
        """Start a fresh embedder on an encoder, a T5 encoder, or a language model made bidirectional.

        Args:
            name: a folder, a packaged model, or a hub id.
            dims: Matryoshka widths; where the largest is not the backbone's own width, a linear projection to it is
                added.
            device: the GPU where there is one, else the CPU.
            dtype: as in :meth:`from_pretrained`, but for int8.
            max_seq_length: 512 (or what a sentence-transformers folder says), capped by the backbone.
            seed: of the projection's weights.

        Raises:
            ModelError: the backbone cannot be found, read or used.
            ConfigError: an argument that cannot be used.
        """
        if max_seq_length is not None and not is_whole(max_seq_length, 1, _LARGEST):
            raise ConfigError(f"max_seq_length must be a positive whole number, not {max_seq_length!r}")
        if not is_whole(seed, 0, _LARGEST):
            raise ConfigError(f"seed must be a whole number from 0 to {_LARGEST:,}, not {seed!r}")
        where = checked_device(device)
        resolved = resolve(name)
        folder = local_folder(resolved)
        layout = read_layout(folder) if is_given(folder / "modules.json") else Layout(transformer=folder)
        backbone, adapter = load_backbone(layout.transformer, as_dtype(dtype), resolved.gguf_file)
        width = hidden_size(backbone.config)
        widths = checked_dims(dims)
        model = cls(
            backbone,
            adapter,
            load_tokenizer(layout.transformer, resolved.gguf_file),
            head=[] if widths[0] == width else [projection(width, widths[0], int(seed)).to(dtype=as_dtype(dtype))],
            dims=widths,
            max_seq_length=max_seq_length or layout.max_seq_length,
            do_lower_case=layout.do_lower_case,
            base_model=resolved.name if resolved.path is None else resolved.path.name,
            auto_bf16=dtype is None,
        )
        check_files(layout, folder)
        return model.to(where)

    def save_pretrained(
        self, path: str | Path, record: dict[str, Any] | None = None, dims: Sequence[int] | None = None
    ) -> Path:
        """Write the folder that sentence-transformers, transformers, vLLM and text-embeddings-inference read.

        Args:
            path: the folder; an earlier model there is replaced, whole or not at all.
            record: how the model was made (anything JSON takes); goes into gecko.json and the model card.
            dims: Matryoshka widths to announce, ``self.dims`` by default.

        Returns:
            The folder.

        Raises:
            ModelError: ``path`` holds something other than a model.
            DataError: it cannot be written.
        """
        write_folder(self, Path(path), record, checked_dims(self.dims if dims is None else dims, self.dim))
        return Path(path)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Save and upload the model; see :func:`gecko_core.folder.push_to_hub`."""
        return push_to_hub(self, repo_id, **options)

    # Texts to tokens

    def format_queries(self, texts: Sequence[str], task: str = DEFAULT_TASK) -> list[str]:
        """Return queries (and both sides of symmetric tasks) in the model's prompt format."""
        checked = checked_texts(texts, "query")
        (task,) = checked_texts([task], "task")
        if self.prompt_style == "plain":
            prefix = self.prompts.get("query", "")
            return [prefix + text for text in checked]
        return [format_query(text, task) for text in checked]

    def format_documents(self, texts: Sequence[str], titles: Sequence[str | None] | None = None) -> list[str]:
        """Return documents in the model's prompt format.

        A plain model gets title and text in one line without white space around it, as in mteb, and a text without a
        title as it is, as from sentence-transformers.

        Raises:
            ConfigError: not as many titles as documents.
        """
        checked = checked_texts(texts, "document")
        if titles is not None:
            check_list(titles, "title")
        named = list(titles) if titles is not None else [None] * len(checked)
        if len(named) != len(checked):
            raise ConfigError(f"{len(checked)} documents but {len(named)} titles; give one (or None) for each document")
        checked_titles = checked_texts([title or "" for title in named], "title")
        if self.prompt_style == "plain":
            prefix = self.prompts.get("document", "")
            pairs = zip(checked_titles, checked, strict=True)
            return [prefix + (f"{title} {text}".strip() if title else text) for title, text in pairs]
        return [format_document(text, title) for title, text in zip(checked_titles, checked, strict=True)]

    def tokenize(self, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """Return token ids with special tokens, cut to ``max_length`` (at most ``max_seq_length``)."""
        length = checked_max_length(max_length, self.max_seq_length)
        return token_ids(self.tokenizer, checked_texts(texts), length, self.do_lower_case)

    # Texts to vectors

    def encode(
        self,
        texts: Sequence[str] | str,
        task: str | None = None,
        *,
        batch_tokens: int | None = None,
        progress: Progress | bool = False,
        truncate_dim: int | None = None,
        output: Literal["numpy", "torch"] = "numpy",
        precision: Precision = "float32",
        devices: Sequence[str] | None = None,
    ) -> Any:
        """Encode texts as they are or, with ``task``, in the symmetric format.

        Args:
            texts: a list of str; a single str gives a single vector.
            task: task string of the symmetric format.
            batch_tokens: tokens of a forward pass, padding included.
            progress: True for a bar on a terminal, lines in a log.
            truncate_dim: leading components to keep, normalised again.
            output: a numpy array, or a tensor on the model's device.
            precision: "int8" (n, dim) by the calibrated ranges, "binary" (n, dim / 8) uint8.
            devices: one process for each, such as ["cuda:0", "cuda:1"]; for several calls, keep an ``EncoderPool``.

        Returns:
            (n, dim) float32, rows of unit length.

        Raises:
            DataError: a row that is not text.
            ConfigError: an argument that cannot be used.
            ModelError: vectors that are not finite.
        """
        options: dict[str, Any] = {"batch_tokens": batch_tokens, "progress": progress, "truncate_dim": truncate_dim}
        if isinstance(texts, str):
            return self.encode([texts], task, output=output, precision=precision, devices=devices, **options)[0]
        if output not in ("numpy", "torch"):
            raise ConfigError(f"output must be 'numpy' or 'torch', not {output!r}")
        check_precision(precision)
        prompted = checked_texts(texts) if task is None else self.format_queries(texts, task)
        width = truncate_dim if truncate_dim is not None else self.truncate_dim
        check_truncate_dim(width, self.dim)
        ranges = self._ranges(width or self.dim) if precision == "int8" else None
        options["truncate_dim"] = width
        names = [] if devices is None else device_names(devices)
        if names:
            with EncoderPool(self, names) as pool:
                vectors = torch.from_numpy(pool.encode(prompted, **options))
        else:
            windows = list(encode_windows(self, prompted, **options))
            vectors = torch.cat(windows) if windows else torch.empty(0, width or self.dim, device=self.device)
        if precision != "float32":
            vectors = torch.from_numpy(quantize(vectors.cpu().numpy(), precision, ranges)).to(vectors.device)
        return vectors.to(self.device) if output == "torch" else vectors.cpu().numpy()

    def encode_queries(
        self,
        texts: Sequence[str] | str,
        task: str = DEFAULT_TASK,
        *,
        enriched: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Any:
        """Encode queries of ``task`` -> (n, dim) float32, rows of unit length. Options as in :meth:`encode`.

        ``enriched`` (:func:`gecko_core.enriched.read_enriched`) has what is encoded in the place of a text.
        """
        if isinstance(texts, str):
            return self.encode_queries([texts], task, enriched=enriched, **options)[0]
        return self.encode(self.format_queries(_replaced(texts, enriched, "query"), task), **options)

    def encode_documents(
        self,
        texts: Sequence[str] | str,
        titles: Sequence[str | None] | str | None = None,
        *,
        enriched: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Any:
        """Encode documents and their titles -> (n, dim) float32, rows of unit length. Options as in :meth:`encode`.

        ``enriched`` (:func:`gecko_core.enriched.read_enriched`) has what is encoded in a text's place; titles stay.
        """
        if isinstance(texts, str):
            named = [titles] if isinstance(titles, str) else titles
            return self.encode_documents([texts], named, enriched=enriched, **options)[0]
        return self.encode(self.format_documents(_replaced(texts, enriched, "document"), titles), **options)

    def encode_stream(self, rows: Iterable[str | Row], path: str | Path, **options: Any) -> int:
        """Encode an iterator of any length to a file; see :func:`gecko_core.encode.encode_stream`."""
        return encode_stream(self, rows, path, **options)

    def calibrate(self, texts: Sequence[str], **options: Any) -> None:
        """Learn the int8 ranges of every Matryoshka width from ``texts``; they are saved with the model."""
        vectors = self.encode(texts, **{**options, "truncate_dim": self.dim})
        self.calibration = {dim: ranges_of(self.truncate(vectors, dim)) for dim in self.dims}

    def _ranges(self, dim: int) -> Ranges:
        if dim not in self.calibration:
            known = f"; there are ranges for {', '.join(map(str, self.calibration))}" if self.calibration else ""
            raise ConfigError(
                f"no int8 ranges for width {dim}{known}: in Python, call model.calibrate(texts) and "
                "model.save_pretrained(folder)"
            )
        return self.calibration[dim]

    def similarity(self, a: np.ndarray | Tensor, b: np.ndarray | Tensor) -> Any:
        """Cosine similarities of (n, d) and (m, d) -> (n, m), of the kind of ``a``.

        Rows of zeros have no direction; their similarities are 0.

        Raises:
            ConfigError: int8 or packed binary embeddings, whose numbers are no components of a vector; or two widths.
            DataError: a row that is not finite, or whose norm is above fp32's range; its number is named.
        """
        left, right = unit_vectors(a, "similarity: a"), unit_vectors(b, "similarity: b")
        if right.ndim > 2:
            raise ConfigError(f"similarity: b must have two dimensions, (m, d), not {tuple(right.shape)}")
        if left.shape[-1] != right.shape[-1]:
            raise ConfigError(
                f"vectors of {left.shape[-1]} components have no similarity to those of {right.shape[-1]}"
            )
        scores = left @ right.to(left.device).T
        return scores if isinstance(a, Tensor) else scores.detach().cpu().numpy()

    def identity(self) -> str:
        """What decides the vectors, as one hash; see :func:`gecko_core.encode.model_identity`."""
        return model_identity(self)

    def truncate(self, embeddings: np.ndarray | Tensor, dim: int) -> Any:
        """Keep the first ``dim`` components, normalised again: (n, d) -> (n, dim), of the kind of ``embeddings``.

        Raises:
            ConfigError: int8 or packed binary embeddings, or a width that they do not have.
            DataError: a row that is not finite, or whose norm is above fp32's range; its number is named.
        """
        cut = unit_vectors(embeddings, "truncate", dim)
        return cut if isinstance(embeddings, Tensor) else cut.detach().cpu().numpy()


def _replaced(texts: Sequence[str], enriched: Mapping[str, str] | None, what: str) -> Sequence[str]:
    if enriched is None:
        return texts
    check_list(texts, what)
    return enriched_texts(texts, enriched)
