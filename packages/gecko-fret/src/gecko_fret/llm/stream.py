"""A batch of prompts that grows token by token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gecko_fret.llm.decoder import Decoder


class Stream:
    """Rows that are decoded together. Rows that have ended leave, so that late steps are not spent on them.

    Args:
        decoder: the model.
        prefixes: prefix of every row; None where its body is all there is.
        bodies: token ids of every row after its prefix.
    """

    def __init__(self, decoder: Decoder, prefixes: Sequence[str | None], bodies: Sequence[Sequence[int]]):
        self._decoder = decoder
        self._cache, prefix_mask = decoder.prefix_cache(prefixes)  # (B, P)
        width = max(len(body) for body in bodies)
        padded = [[0] * (width - len(body)) + list(body) for body in bodies]
        mask = [[0] * (width - len(body)) + [1] * len(body) for body in bodies]
        self._ids = torch.tensor(padded, device=decoder.device)  # (B, L), padded on the left
        self._mask = torch.cat([prefix_mask, torch.tensor(mask, device=decoder.device)], dim=1)  # (B, P + L)
        self._positions = self._mask.cumsum(1)[:, prefix_mask.shape[1] :] - 1

    def logits(self) -> Tensor:  # (B, V)
        """Logits of the token after each row."""
        hidden = self._decoder.forward(self._ids, self._mask, self._positions.clamp(min=0), self._cache)
        return self._decoder.logits(hidden[:, -1])

    def extend(
        self,
        chosen: Tensor,  # (B,)
        going: Sequence[int],
    ) -> None:
        """Append a token to every row, and keep the rows numbered ``going``, which must ascend."""
        self._ids = chosen[:, None]
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(chosen), 1)], dim=1)
        self._positions = self._positions[:, -1:] + 1
        if len(going) < len(chosen):
            keep = torch.tensor(going, device=self._ids.device)
            self._decoder.keep_rows(self._cache, keep)
            self._ids, self._mask, self._positions = self._ids[keep], self._mask[keep], self._positions[keep]
