"""Block scoring: the continuations of one context side by side in a row, under a mask that keeps them apart.

The contexts of a batch are computed first. Then come rows of continuations: each token sees prefix, context and what
stands before it in its own continuation, and its position is counted from the end of the context. A context is read
once however many continuations it has, and nothing but the sum's rounding tells the scores from those of full prompts.

One pass over rows of context and continuations together (a tree mask) takes a CPU as long, within a tenth at 2, 5 and
20 continuations of 12 tokens; and a context with more of them than a row holds would be read again for every row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from gecko_core.encode import plan_batches
from gecko_fret.llm.decoder import Decoder
from gecko_fret.llm.kept import Values, scored_once
from gecko_fret.llm.protocol import Scored
from gecko_fret.llm.segments import LabelTokens

#: Tokens of a row of continuations. Its attention grows with their square and most of it is masked out, while shorter
#: rows copy the context's keys more often: 64 to 192 tokens are equally fast, 512 take a seventh longer (SmolLM2-135M).
_PACK_TOKENS = 128
#: Tokens of a pass over rows of continuations on a CPU, which gains nothing from more: the fewer, the less padding.
_CPU_PASS_TOKENS = 1024


@dataclass(slots=True)
class Continuation:
    """What follows a context in one or more equal requests.

    Attributes:
        read: tokens that the model reads after the context.
        scored: tokens whose log-probabilities are asked for; ``read`` begins with them, or with all but the last.
        rows: numbers of the requests.
    """

    read: tuple[int, ...]
    scored: tuple[int, ...]
    rows: list[int] = field(default_factory=list)
    total: float = 0.0
    labels: tuple[float, ...] = ()

    @property
    def result(self) -> Scored:
        """The scores, from what the passes have left in ``total`` (a sum of log-probabilities) and ``labels``."""
        count = len(self.scored)
        return Scored(self.total / count if count else math.nan, count, self.labels)


@dataclass(slots=True)
class Group:
    """A context after its prefix, and the distinct continuations that are scored after it."""

    prefix: str
    context: tuple[int, ...]
    continuations: list[Continuation] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Tokens that the model reads."""
        return len(self.context) + sum(len(continuation.read) for continuation in self.continuations)

    @property
    def depth(self) -> int:
        """Tokens from the begin of the context to the end of the longest continuation."""
        return len(self.context) + max(len(continuation.read) for continuation in self.continuations)


def group_rows(rows: Iterable[tuple[str, Sequence[int], Sequence[int], Sequence[int]]]) -> list[Group]:
    """Bring together the requests of one prefix and context, and those that are equal altogether.

    Args:
        rows: prefix, context, tokens read after it and tokens scored after it, of every request in order.

    Returns:
        The groups in the order of their first requests.
    """
    groups: dict[tuple[str, tuple[int, ...]], Group] = {}
    continuations: dict[tuple[str, tuple[int, ...], tuple[int, ...], tuple[int, ...]], Continuation] = {}
    for number, (prefix, context, read, scored) in enumerate(rows):
        group = groups.setdefault((prefix, tuple(context)), Group(prefix, tuple(context)))
        key = (prefix, group.context, tuple(read), tuple(scored))
        if key not in continuations:
            continuations[key] = Continuation(key[2], key[3])
            group.continuations.append(continuations[key])
        continuations[key].rows.append(number)
    return list(groups.values())


@dataclass(slots=True)
class Pack:
    """Continuations of one group that stand side by side in a row.

    Attributes:
        group: place of the group in the batch of contexts.
        members: the continuations, and where each begins.
        ids: the tokens of the row.
        offsets: of every token its place in its continuation.
        owners: of every token the number of its continuation.
    """

    group: int
    members: list[tuple[Continuation, int]] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)

    def add(self, continuation: Continuation) -> None:
        """Append a continuation to the row."""
        self.owners += [len(self.members)] * len(continuation.read)
        self.members.append((continuation, len(self.ids)))
        self.ids += continuation.read
        self.offsets += range(len(continuation.read))


def make_packs(group: Group, place: int, tokens: int) -> list[Pack]:
    """Spread the continuations of a group over as few packs as ``tokens`` allows, about equally long ones.

    Continuations of which nothing is read stand in no pack.

    Args:
        group: the group.
        place: its place in the batch of contexts.
        tokens: about what a pack holds; a longer continuation has one of its own.
    """
    reads = [continuation for continuation in group.continuations if continuation.read]
    longest_first = sorted(reads, key=lambda continuation: -len(continuation.read))
    alone = [continuation for continuation in longest_first if len(continuation.read) >= tokens]
    others = longest_first[len(alone) :]
    packs = [Pack(place) for _ in range(-(-sum(len(continuation.read) for continuation in others) // tokens))]
    for continuation in others:
        min(packs, key=lambda pack: len(pack.ids)).add(continuation)
    for continuation in alone:
        packs.append(Pack(place))
        packs[-1].add(continuation)
    return packs


def block_mask(
    packs: Sequence[Pack],
    before: Tensor,  # (B, S), 1 where a token of prefix or context is
    width: int,
) -> Tensor:  # (B, 1, width, S + width), True where a token sees another
    """What the tokens of packs see: prefix and context, and what stands before them in their own continuation.

    Padding sees prefix, context and padding: of a token that sees nothing, some kernels make NaN.
    """
    owners = torch.tensor([_padded(pack.owners, width, -1) for pack in packs], device=before.device)
    own = (owners[:, :, None] == owners[:, None, :]).tril()
    return torch.cat([before.bool()[:, None, :].expand(-1, width, -1), own], dim=2)[:, None]


class BlockScorer:
    """Scores groups with a decoder.

    Args:
        decoder: the network.
        batch_tokens: padded tokens of one forward pass, the shared prefix not counted.
        batch_rows: most rows of one forward pass.
        about: tells the network from others, for scores that are kept.
    """

    def __init__(self, decoder: Decoder, batch_tokens: int, batch_rows: int, about: str = ""):
        self._decoder, self._batch_tokens, self._batch_rows, self._about = decoder, batch_tokens, batch_rows, about
        on_cpu = decoder.device.type == "cpu"
        self._pass_tokens = min(batch_tokens, _CPU_PASS_TOKENS) if on_cpu else batch_tokens

    def __call__(
        self, groups: Sequence[Group], labels: LabelTokens | None, done: Callable[[int], None] | None = None
    ) -> None:
        """Fill in the scores of all continuations.

        Args:
            groups: contexts and their continuations.
            labels: what follows every continuation, or nothing.
            done: takes the number of rows that have their scores since the last call.
        """
        lengths = [len(group.context) for group in groups]
        for numbers in plan_batches(lengths, self._batch_tokens, max_rows=self._batch_rows):
            some = [groups[number] for number in numbers]
            continuations = [continuation for group in some for continuation in group.continuations]
            parts = [(g.prefix, g.context, [(c.read, c.scored) for c in g.continuations]) for g in some]
            batch = (self._about, self._pass_tokens, labels, parts)
            scores = scored_once(batch, partial(self._scores, some, continuations, labels))
            for continuation, (total, of_labels) in zip(continuations, scores, strict=True):
                continuation.total, continuation.labels = total, of_labels
            if done:
                done(sum(len(continuation.rows) for continuation in continuations))

    def _scores(
        self, groups: list[Group], continuations: list[Continuation], labels: LabelTokens | None
    ) -> list[Values]:
        self._score_batch(groups, labels)
        return [(continuation.total, continuation.labels) for continuation in continuations]

    def _score_batch(self, groups: list[Group], labels: LabelTokens | None) -> None:
        device = self._decoder.device
        cache, before = self._decoder.prefix_cache([group.prefix for group in groups])  # (B, P)
        lengths = torch.tensor([len(group.context) for group in groups], device=device)
        ids = _rows([group.context for group in groups], device)  # (B, C)
        steps = torch.arange(ids.shape[1], device=device)
        starts = before.sum(1)
        before = torch.cat([before, (steps < lengths[:, None]).long()], dim=1)  # (B, P + C)
        hidden = self._decoder.forward(ids, before, steps + starts[:, None], cache)  # (B, C, D)
        last = hidden[torch.arange(len(groups), device=device), lengths - 1]  # (B, D)
        self._after_contexts(groups, last, labels)
        packs = [pack for place, group in enumerate(groups) for pack in make_packs(group, place, self._pack_tokens)]
        sizes = [len(pack.ids) for pack in packs]
        for numbers in plan_batches(sizes, self._pass_tokens, max_rows=self._batch_rows):
            some = [packs[number] for number in numbers]
            rows = torch.tensor([pack.group for pack in some], device=device)
            ids = _rows([pack.ids for pack in some], device)  # (R, L)
            positions = _rows([pack.offsets for pack in some], device) + (starts + lengths)[rows, None]
            mask = block_mask(some, before[rows], ids.shape[1])
            states = self._decoder.forward(ids, mask, positions, self._decoder.continued(cache, rows))  # (R, L, D)
            self._after_continuations(some, states, labels)

    @property
    def _pack_tokens(self) -> int:
        return min(_PACK_TOKENS, self._pass_tokens)

    def _after_contexts(self, groups: list[Group], last: Tensor, labels: LabelTokens | None) -> None:
        """What is predicted by a context's last token (B, D): first tokens, and labels with nothing before them."""
        firsts = [(c, place) for place, group in enumerate(groups) for c in group.continuations if c.scored]
        if firsts:
            targets = torch.tensor([c.scored[0] for c, _ in firsts], device=last.device)
            after = torch.tensor([place for _, place in firsts], device=last.device)
            values = self._decoder.logprobs_of(last, targets, after).double().tolist()
            for (continuation, _), value in zip(firsts, values, strict=True):
                continuation.total += value
        if labels is not None:
            ends = [(c, place) for place, group in enumerate(groups) for c in group.continuations if not c.read]
            self._label([c for c, _ in ends], last[[place for _, place in ends]], labels)

    def _after_continuations(self, packs: list[Pack], states: Tensor, labels: LabelTokens | None) -> None:
        """What is predicted by the tokens of continuations (R, L, D)."""
        members = [(row, start, c) for row, pack in enumerate(packs) for c, start in pack.members]
        where = [(row, start + i) for row, start, c in members for i in range(len(c.scored) - 1)]
        if where:
            index = torch.tensor(where, device=states.device)
            targets = torch.tensor([token for _, _, c in members for token in c.scored[1:]], device=states.device)
            values = self._decoder.logprobs(states[index[:, 0], index[:, 1]], targets).double().tolist()
            of_token = [c for _, _, c in members for _ in c.scored[1:]]
            for continuation, value in zip(of_token, values, strict=True):
                continuation.total += value
        if labels is not None:
            rows, ends = zip(*((row, start + len(c.read) - 1) for row, start, c in members), strict=True)
            self._label([c for _, _, c in members], states[list(rows), list(ends)], labels)

    def _label(self, continuations: list[Continuation], states: Tensor, labels: LabelTokens) -> None:
        if continuations:
            probabilities = self._decoder.logits(states, labels.ids, exact=True).softmax(-1).tolist()
            for continuation, row in zip(continuations, probabilities, strict=True):
                continuation.labels = tuple(row)


def _rows(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Rows of numbers, padded on the right with 0."""
    width = max(map(len, rows))
    return torch.tensor([_padded(row, width, 0) for row in rows], device=device)


def _padded(row: Sequence[int], width: int, value: int) -> list[int]:
    return [*row, *[value] * (width - len(row))]
