"""From texts to token ids: checks, cleaning, fast tokenisation, padding."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from tokenizers.normalizers import Lowercase
from torch import Tensor

from gecko_core.errors import ConfigError, DataError, ModelError
from gecko_core.numbers import is_whole
from gecko_core.sequences import check_list

_lock = threading.Lock()


def _new_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # the thread that held it is not in the child
    os.register_at_fork(after_in_child=_new_lock)


def checked_texts(texts: Iterable[str], what: str = "text", first: int = 0) -> list[str]:
    """Return a list of well-formed strings.

    A lone surrogate, which no tokenizer accepts, becomes U+FFFD, as Python's own ``errors="replace"`` would have it; a
    surrogate pair becomes the character it stands for.

    Args:
        texts: what should be strings.
        what: the word for such a text in messages.
        first: number of the first row, for messages of a long stream.

    Raises:
        DataError: a row is not a string; its number is named.
    """
    check_list(texts, what)
    checked = []
    for row, text in enumerate(texts, start=first):
        if not isinstance(text, str):
            cure = (
                "give str, as .to_pylist() does" if hasattr(text, "as_py") else "drop the row or give an empty string"
            )
            raise DataError(f"row {row}: {what} is {type(text).__name__}, not str; {cure}")
        checked.append(text if text.isascii() else _well_formed(text))
    return checked


def _well_formed(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def token_ids(tokenizer: Any, texts: Sequence[str], max_length: int, lowercase: bool = False) -> list[list[int]]:
    """Return token ids with special tokens; a text that has no tokens becomes the one padding token.

    A fast tokenizer's Rust core is called directly: the ids are all we need.

    Args:
        tokenizer: a transformers tokenizer.
        texts: well-formed texts.
        max_length: most tokens of a text, special ones included; the rest is cut off.
        lowercase: lower-case texts first.

    Raises:
        ConfigError: special tokens alone fill ``max_length``.
    """
    if not texts:
        return []
    core = getattr(tokenizer, "backend_tokenizer", None)
    if lowercase:
        texts = _lowered(texts, core)
    special = tokenizer.num_special_tokens_to_add() if core is None else core.num_special_tokens_to_add(False)
    if max_length <= special:  # tokenizers would cut off nothing
        raise ConfigError(
            f"a text of at most {max_length} tokens has no room beside the tokenizer's {special} special ones; set "
            f"max_seq_length to {special + 1} or more (a folder without it takes model_max_length of its "
            "tokenizer_config.json)"
        )
    if core is not None:
        wanted = {
            "max_length": max_length,
            "stride": 0,
            "strategy": "longest_first",
            "direction": tokenizer.truncation_side,
        }
        with _lock:  # the limit is the core's own, and another thread may have another one
            if core.truncation != wanted:
                core.enable_truncation(**wanted)
            if core.padding is not None:
                core.no_padding()
            encodings = core.encode_batch_fast(list(texts))
        ids = [encoding.ids for encoding in encodings]
    else:
        ids = tokenizer(list(texts), truncation=True, max_length=max_length, padding=False)["input_ids"]
    empty = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return [row if row else [empty] for row in ids]


def _lowered(texts: Sequence[str], core: Any) -> list[str]:
    """Lower-case texts as the tokenizer's own normaliser would, which sees no token that is looked for before it."""
    if core is None:
        return [text.lower() for text in texts]
    tokens = [token.content for token in core.get_added_tokens_decoder().values() if not token.normalized]
    kept = re.compile(f"({'|'.join(map(re.escape, sorted(tokens, key=len, reverse=True)))})" if tokens else "($^)")
    lower = Lowercase().normalize_str
    return [
        "".join(part if place % 2 else lower(part) for place, part in enumerate(kept.split(text))) for text in texts
    ]


def padded(
    rows: Sequence[Sequence[int]], pad_id: int, vocabulary: int, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Pad token ids on the right.

    Args:
        rows: token ids of B texts.
        pad_id: what to pad with.
        vocabulary: number of embeddings of the backbone.
        device: where the tensors go.

    Returns:
        ``input_ids`` and ``attention_mask``, both (B, L) int64.

    Raises:
        DataError: no rows.
        ModelError: a token id outside the vocabulary; on a GPU the look-up would end the process.
    """
    if not rows:
        raise DataError("an empty batch cannot be padded; give at least one row of token ids")
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    width = max(int(lengths.max()), 1)
    mask = np.arange(width) < lengths[:, None]
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    ids[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    checked_ids(ids, vocabulary)
    return {
        "input_ids": torch.from_numpy(ids).to(device),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)).to(device),
    }


def checked_ids(ids: np.ndarray, vocabulary: int) -> None:
    """Make sure that every token id has an embedding.

    Raises:
        ModelError: one has none.
    """
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest < 0 or highest >= vocabulary:
        wrong = lowest if lowest < 0 else highest
        raise ModelError(
            f"token id {wrong} is outside of the backbone's {vocabulary} embeddings; the tokenizer is another model's"
        )


def checked_max_length(max_length: int | None, limit: int) -> int:
    """Return ``max_length`` where it is given and possible, else ``limit``.

    Raises:
        ConfigError: not a positive whole number.
    """
    if max_length is None:
        return limit
    if not is_whole(max_length, 1):
        raise ConfigError(f"max_length must be a positive whole number, not {max_length!r}")
    return min(int(max_length), limit)
