"""Which tokens are hidden, and what stands in their place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gecko_train.config import MntpConfig


@dataclass(frozen=True)
class Masked:
    """A batch of sequences in which tokens are hidden.

    Attributes:
        ids: (B, L) int64, what the model reads.
        rows: (N,) int64, sequences of the hidden tokens.
        columns: (N,) int64, their positions, none of them 0: the hidden state before it predicts a token.
        targets: (N,) int64, the tokens that were there.
    """

    ids: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    targets: np.ndarray


def mask_tokens(
    ids: np.ndarray, special: np.ndarray, config: MntpConfig, mask_id: int, vocabulary: int, draws: np.random.Generator
) -> Masked:
    """Hide tokens as BERT does: most become the mask token, some a random one, some stay.

    Args:
        ids: (B, L) token ids.
        special: (B, L) bool, tokens that are never hidden.
        config: the shares.
        mask_id: id of the mask token.
        vocabulary: number of ids that a random token is drawn from.
        draws: a generator.

    Returns:
        The batch; at least one token is hidden wherever one may be.
    """
    allowed = ~special
    allowed[:, 0] = False
    chances = draws.random(ids.shape)
    hidden = (chances < config.probability) & allowed
    if not hidden.any() and allowed.any():
        hidden = (chances == chances[allowed].min()) & allowed
    rows, columns = hidden.nonzero()
    kinds = draws.random(len(rows))
    changed = ids.copy()
    replaced = kinds < 1 - config.kept
    by_chance = kinds < config.random
    changed[rows[replaced], columns[replaced]] = mask_id
    changed[rows[by_chance], columns[by_chance]] = draws.integers(vocabulary, size=int(by_chance.sum()))
    return Masked(changed, rows, columns, ids[rows, columns])
