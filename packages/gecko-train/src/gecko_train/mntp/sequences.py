"""Texts laid end to end and cut into sequences of one length, so that no position is padding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from gecko_core import Gecko
from gecko_core.errors import DataError
from gecko_core.io import Progress, make_progress
from gecko_core.randomness import generator
from gecko_fret.corpus import Corpus

_AT_ONCE = 1024  # texts that are tokenised together


class Sequences:
    """The tokens of a corpus in sequences of ``length``; what is left at the end is dropped.

    Each text ends with the tokenizer's end token. Which sequences a step reads is a function of (seed, step): every
    pass goes through all of them in another order.

    Args:
        tokens: (T,) token ids of all texts, end to end.
        special: ids that are never hidden.
        length: tokens of a sequence; all there are, where there are fewer.
        seed: of the order.

    Raises:
        DataError: fewer than two tokens.
    """

    def __init__(self, tokens: np.ndarray, special: Sequence[int], length: int, seed: int = 0):
        if len(tokens) < 2:
            raise DataError("the corpus has fewer than two tokens to learn from; give it texts")
        length = min(length, len(tokens))
        count = len(tokens) // length
        self.ids = np.asarray(tokens[: count * length], dtype=np.int64).reshape(count, length)
        self.special = np.isin(self.ids, np.asarray(sorted(set(special)), dtype=np.int64))
        self.seed = seed

    @classmethod
    def of_corpus(
        cls, corpus: Corpus, model: Gecko, length: int, seed: int = 0, *, progress: Progress | bool | None = None
    ) -> Sequences:
        """The titles and texts of a corpus, in an order drawn with the seed.

        Args:
            corpus: the passages.
            model: whose tokenizer is read with.
            length: tokens of a sequence.
            seed: of the order.
            progress: see :func:`gecko_core.io.make_progress`.
        """
        bar = make_progress(progress)
        order = generator("mntp texts", seed).permutation(len(corpus)).tolist()
        parts: list[np.ndarray] = []
        bar.start("tokenising", len(order), 0, "texts")
        for start in range(0, len(order), _AT_ONCE):
            passages = [corpus[row] for row in order[start : start + _AT_ONCE]]
            parts += _token_ids(["\n".join(filter(None, (p.title, p.text))) for p in passages], model.tokenizer)
            bar.advance(len(passages))
        bar.finish()
        special = [i for i in model.tokenizer.all_special_ids if i is not None]
        return cls(np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64), special, length, seed)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def fingerprint(self) -> str:
        """Identity of the sequences and their order."""
        digest = hashlib.sha256(f"mntp {self.ids.shape} {self.seed}".encode())
        digest.update(np.ascontiguousarray(self.ids).view(np.uint8).data)
        return digest.hexdigest()

    def batch(self, step: int, size: int) -> np.ndarray:
        """Rows of the sequences of one step.

        Args:
            step: steps before this one.
            size: how many; a pass that ends within a batch goes on with the next one.

        Returns:
            (size,) int64.
        """
        first = step * size
        rows: list[int] = []
        while len(rows) < size:
            turn, place = divmod(first + len(rows), len(self))
            order = generator("mntp sequences", self.seed, turn).permutation(len(self))
            rows += order[place : place + size - len(rows)].tolist()
        return np.array(rows, dtype=np.int64)


def _token_ids(texts: list[str], tokenizer: object) -> list[np.ndarray]:
    """Token ids of each text, the end token last; marks such as <|endoftext|> in a text are read as text."""
    encoded = tokenizer(texts, add_special_tokens=True, truncation=False, verbose=False, split_special_tokens=True)  # type: ignore[operator]
    end = tokenizer.eos_token_id  # type: ignore[attr-defined]
    found = []
    for ids in encoded["input_ids"]:
        last = [] if end is None or (ids and ids[-1] == end) else [end]
        found.append(np.array([*ids, *last], dtype=np.int64))
    return found
