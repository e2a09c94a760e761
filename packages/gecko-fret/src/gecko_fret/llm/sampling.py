"""Drawing tokens repeatably, and knowing when a completion has ended.

``generate`` of transformers draws all rows of a batch from one random number generator: a row's tokens would depend on
its batch, and a resumed build would write other queries. Here every row draws from its own seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gecko_fret.llm.protocol import Sampling


def uniform_numbers(seeds: Sequence[int], count: int) -> Tensor:
    """Numbers in [0, 1), (rows, count): each row's come from its own seed and do not depend on the batch."""
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        rows.append(torch.rand(count, generator=generator, dtype=torch.float64))
    return torch.stack(rows) if rows else torch.empty(0, count, dtype=torch.float64)


def draw_tokens(
    logits: Tensor,  # (B, V) fp32
    uniform: Tensor,  # (B,) in [0, 1)
    sampling: Sampling,
    without: Tensor | None = None,  # (B, V) fp32
) -> tuple[Tensor, Tensor]:
    """Draw one token per row by nucleus sampling and the inverse of the distribution function.

    Of the ``top_k`` likeliest tokens, the smallest set whose probability reaches ``top_p``, and in it the one that
    ``uniform`` points at. Temperature 0 takes the likeliest.

    Args:
        logits: of the model.
        uniform: a number per row.
        sampling: temperature, ``top_k``, ``top_p``, and the contrast where there is one.
        without: logits after the same tokens without the passage, for ``contrasted``.

    Returns:
        The chosen tokens (B,) and their log-probabilities (B,) under the model itself (temperature 1, all tokens).
    """
    model_logprobs = logits.log_softmax(-1)
    if without is not None:
        logits = contrasted(model_logprobs, without.log_softmax(-1), sampling.contrast, sampling.plausible)
    if sampling.temperature == 0:
        chosen = logits.argmax(-1)
    else:
        top, tokens = logits.topk(min(sampling.top_k, logits.shape[-1]), dim=-1)  # sorting all of V would cost more
        below = top.double() - top[:, :1].double()  # divided by a tiny temperature, the likeliest stays at 0
        shares = (below / sampling.temperature).softmax(-1)
        before = shares.cumsum(-1) - shares
        mass = shares.masked_fill(before >= sampling.top_p, 0.0).cumsum(-1)
        place = torch.searchsorted(mass, uniform[:, None] * mass[:, -1:], right=True).clamp(max=top.shape[1] - 1)
        chosen = tokens.gather(1, place)[:, 0]
    return chosen, model_logprobs.gather(1, chosen[:, None])[:, 0]


def contrasted(
    logprobs: Tensor,  # (B, V)
    without: Tensor,  # (B, V)
    contrast: float,
    plausible: float,
) -> Tensor:  # (B, V)
    """Scores that favour what the passage makes likelier: log p(token | passage) - contrast * log p(token).

    What is likely whatever the passage says loses most (van der Poel et al. 2022, arXiv 2210.13210). Tokens that are
    improbable with the passage, too, must not win by being more improbable without it: those below ``plausible`` times
    the largest probability get minus infinity (Li et al. 2023, arXiv 2210.15097, equation 3).
    """
    floor = logprobs.amax(-1, keepdim=True) + math.log(plausible)
    return (logprobs - contrast * without).masked_fill(logprobs < floor, -math.inf)


#: Special tokens by which model families end a turn or a text. A model's configuration seldom names all that it writes.
_ENDS = {
    "<|endoftext|>",
    "<|im_end|>",
    "<|end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end_of_turn|>",
    "<|return|>",
    "<end_of_turn>",
    "<eos>",
    "</s>",
}


def end_tokens(tokenizer: Any) -> set[int]:
    """Ids of the special and added tokens of a tokenizer that end a turn or a text, ``eos_token`` among them."""
    known = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    ends = {tokenizer.convert_tokens_to_ids(token) for token in known & _ENDS}
    return ends | (set() if tokenizer.eos_token_id is None else {tokenizer.eos_token_id})


class StopWatch:
    """Decides when a row has ended: by an end token, or by one of the stop strings in its text.

    Args:
        tokenizer: of the model.
        sampling: names the stop strings.
        end_ids: the end tokens.
    """

    def __init__(self, tokenizer: Any, sampling: Sampling, end_ids: set[int]):
        self._tokenizer, self._stop, self._ends = tokenizer, sampling.stop, end_ids

    def finished(self, tokens: list[int]) -> bool:
        """Whether the row has ended with its last token."""
        if tokens[-1] in self._ends:
            return True
        tail = self._tokenizer.decode(tokens[-8:], clean_up_tokenization_spaces=False)
        return any(stop in tail for stop in self._stop)

    def text(self, tokens: list[int]) -> tuple[str, bool]:
        """The completion's text before the stop, and whether there was one."""
        ended = bool(tokens) and tokens[-1] in self._ends
        text = self._tokenizer.decode(tokens[:-1] if ended else tokens, clean_up_tokenization_spaces=False)
        cuts = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        return (text[: min(cuts)], True) if cuts else (text, ended)
