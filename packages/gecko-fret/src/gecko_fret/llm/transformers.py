"""The transformers backend: batched, with shared prefixes computed once and logits only where they are read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gecko_core.devices import checked_device, weights_dtype
from gecko_core.encode import plan_batches
from gecko_core.folder import resolve
from gecko_fret.llm.blocks import BlockScorer, group_rows
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.decoder import Decoder
from gecko_fret.llm.kept import Values, scored_once
from gecko_fret.llm.loading import files_fingerprint, load_causal_lm, load_tokenizer, weights_fingerprint
from gecko_fret.llm.protocol import Completion, Dialogue, Sampling, Scored, ScoreRequest, Usage, WriteRequest
from gecko_fret.llm.sampling import StopWatch, draw_tokens, end_tokens, uniform_numbers
from gecko_fret.llm.segments import LabelTokens, SegmentTokenizer
from gecko_fret.llm.stream import Stream

#: Tokens and rows of a forward pass, where none are set, by whether the device is a GPU.
_BATCH = {False: (8_192, 64), True: (32_768, 512)}


@dataclass(slots=True)
class _Row:
    """One request as token ids, where its continuation begins, and the prefix that it goes on from, if any."""

    index: int
    prefix: str | None
    ids: list[int]
    start: int
    continuation: list[int]


def _place(config: LLMConfig) -> torch.device:
    """The configured device, else the first GPU or the CPU."""
    return checked_device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))


class TransformersLLM:
    """A causal language model of the transformers library, on CPU or GPU.

    Rows are sorted by length and packed into batches of at most ``batch_tokens`` padded tokens; which rows share a
    batch depends only on the call, so equal calls give equal bits on one machine. Text segments (prefix, context,
    continuation, tail) are tokenised one by one, so that the prefix's keys and values serve all rows; in blocks, the
    context's as well (``gecko_fret.llm.blocks``).

    Args:
        model: a causal language model of transformers.
        tokenizer: its tokenizer.
        name: the model's name, for messages and rows.
        fingerprint: see ``LLM``.
        batch_tokens: padded tokens of one forward pass, the shared prefix not counted.
        batch_rows: most rows of one forward pass.

    Raises:
        ModelError: the model's logits are not those of its output layer.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str, fingerprint: str, batch_tokens: int, batch_rows: int):
        self.name, self.fingerprint = name, fingerprint
        self._tokenizer, self._usage = tokenizer, Usage()
        self._segments = SegmentTokenizer(tokenizer, name)
        self._decoder = Decoder(model, name, lambda prefix: self._segments.encode([prefix], special=True)[0])
        self._batch_tokens, self._batch_rows = batch_tokens, batch_rows

    @classmethod
    def load(cls, config: LLMConfig) -> TransformersLLM:
        """Load a folder, a packaged model or a hub id; see ``Backend``.

        Raises:
            ModelError: the model cannot be loaded; the line names it.
        """
        place = _place(config)
        dtype = weights_dtype(place) if config.dtype == "auto" else getattr(torch, config.dtype)
        model = load_causal_lm(config.model, dtype, place)
        resolved = resolve(config.model)
        weights = files_fingerprint(resolved.path, resolved.gguf_file) if resolved.path else str(resolved.hub_id)
        return cls(
            model.to(place),
            load_tokenizer(config.model),
            name=config.model,
            fingerprint=f"{weights}:{str(model.dtype).removeprefix('torch.')}",
            batch_tokens=config.batch_tokens or _BATCH[place.type == "cuda"][0],
            batch_rows=config.batch_rows or _BATCH[place.type == "cuda"][1],
        )

    @classmethod
    def fingerprint_of(cls, config: LLMConfig) -> str:
        """Weights and dtype; see ``Backend``.

        ``auto`` alone stands for what version 0.1 loaded, bf16 on every GPU. Where it is fp16 now (before Ampere), the
        dtype is added, because a build must not go on in another dtype than it began in.
        """
        name = f"transformers:{weights_fingerprint(config.model)}:{config.dtype}"
        if config.dtype == "auto" and torch.cuda.is_available():
            dtype = weights_dtype(_place(config))
            if dtype == torch.float16:
                return f"{name}:{str(dtype).removeprefix('torch.')}"
        return name

    @property
    def usage(self) -> Usage:
        """Tokens counted since the model was loaded."""
        self._usage.prefix_tokens = self._decoder.prefix_tokens
        return self._usage

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._decoder.device

    def close(self) -> None:
        """Release the prefixes' keys and values."""
        self._decoder.forget_prefixes()

    def truncate(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        """See ``LLM``."""
        return self._segments.truncate(texts, max_tokens)

    # -- writing

    def chat(self, dialogue: Dialogue) -> tuple[str, str] | None:
        """See ``ChatLLM``."""
        return self._segments.chat(dialogue)

    @torch.inference_mode()
    def generate(self, requests: Sequence[WriteRequest], sampling: Sampling) -> list[Completion]:
        """See ``LLM``."""
        bodies = self._segments.encode([request.body for request in requests])
        longest = max(map(len, bodies), default=0) + sampling.max_new_tokens
        shared = not any(self._decoder.minds_gaps(prefix, longest) for prefix in {r.prefix for r in requests})
        rows = []
        for index, (request, ids) in enumerate(zip(requests, bodies, strict=True)):
            prefix, ids = (request.prefix, ids) if shared else (None, self._with_prefix(request, ids))
            rows.append(_Row(index, prefix, ids, len(ids), []))
        results: dict[int, Completion] = {}
        for batch in self._batches(rows, extra=sampling.max_new_tokens):
            results |= self._generate_batch(batch, requests, sampling)
        return [results[row.index] for row in rows]

    def _generate_batch(
        self, batch: list[_Row], requests: Sequence[WriteRequest], sampling: Sampling
    ) -> dict[int, Completion]:
        """Decode one batch; rows that have stopped leave it, so that late steps are not spent on finished rows."""
        prefixes = [row.prefix for row in batch]
        stream = Stream(self._decoder, prefixes, [row.ids for row in batch])
        other: Stream | None = None
        self._usage.prompt_tokens += sum(len(row.ids) for row in batch)
        if sampling.contrast:
            asked = [requests[row.index] for row in batch]
            without = self._segments.encode([request.without for request in asked])
            if prefixes[0] is None:
                without = [self._with_prefix(request, ids) for request, ids in zip(asked, without, strict=True)]
            other = Stream(self._decoder, prefixes, without)
            self._usage.prompt_tokens += sum(map(len, without))
        watch = StopWatch(self._tokenizer, sampling, self._end_ids())
        seeds = [requests[row.index].seed for row in batch]
        draws = uniform_numbers(seeds, sampling.max_new_tokens).to(self.device)
        alive = list(range(len(batch)))
        tokens: list[list[int]] = [[] for _ in batch]
        logprobs: list[list[float]] = [[] for _ in batch]
        self._usage.requests += len(batch)
        for step in range(sampling.max_new_tokens):
            chosen, logprob = draw_tokens(
                stream.logits(), draws[alive, step], sampling, other.logits() if other else None
            )
            for place, token, value in zip(alive, chosen.tolist(), logprob.tolist(), strict=True):
                tokens[place].append(token)
                logprobs[place].append(value)
            going = [number for number, place in enumerate(alive) if not watch.finished(tokens[place])]
            if not going:
                break
            for each in (stream, other) if other else (stream,):
                each.extend(chosen, going)
            alive = [alive[number] for number in going]
        completions = {}
        for row, written, values in zip(batch, tokens, logprobs, strict=True):
            self._usage.generated_tokens += len(written)
            text, finished = watch.text(written)
            completions[row.index] = Completion(text, sum(values) / max(len(values), 1), len(written), finished)
        return completions

    # -- scoring

    @torch.inference_mode()
    def score(
        self, requests: Sequence[ScoreRequest], labels: Sequence[str] = (), *, blocks: bool = False
    ) -> list[Scored]:
        """See ``LLM``."""
        label_tokens = self._segments.labels(labels) if labels else None
        rows = self._score_rows(requests, label_tokens)
        results = self._score_blocks(rows, label_tokens) if blocks else {}
        for batch in self._batches([row for row in rows if row.index not in results]):
            results |= self._score_batch(batch, label_tokens, exact=blocks)
        return [results[row.index] for row in rows]

    def _score_blocks(self, rows: Sequence[_Row], labels: LabelTokens | None) -> dict[int, Scored]:
        """The results of rows that have their context in common with others, where the model takes blocks."""
        if self._decoder.recurrent:
            return {}
        parts = ((row.prefix or "", row.ids[: row.start], row.ids[row.start :], row.continuation) for row in rows)
        groups = [
            group
            for group in group_rows(parts)
            if len(group.continuations) > 1 and self._decoder.takes_blocks(group.prefix, group.depth)
        ]
        score = BlockScorer(self._decoder, self._batch_tokens, self._batch_rows, self._about)
        score(groups, labels, self._answered)
        results = {row: c.result for group in groups for c in group.continuations for row in c.rows}
        self._usage.prompt_tokens += sum(group.tokens for group in groups)
        return results

    def _answered(self, count: int) -> None:
        self._usage.requests += count

    def _score_rows(self, requests: Sequence[ScoreRequest], labels: LabelTokens | None) -> list[_Row]:
        contexts, continuations, tails = (
            self._segments.encode([getattr(request, name) for request in requests])
            for name in ("context", "continuation", "tail")
        )
        rows = []
        for index, (context, continuation, tail) in enumerate(zip(contexts, continuations, tails, strict=True)):
            if not context:
                raise ValueError("a score request needs a context; the prefix alone cannot be scored against")
            # The last token of a continuation is only predicted, never read, unless labels follow it.
            read = [*continuation, *tail, *labels.lead] if labels else continuation[:-1]
            prefix: str | None = requests[index].prefix
            if self._decoder.recurrent:
                prefix, context = None, self._with_prefix(requests[index], context)
            rows.append(_Row(index, prefix, context + read, len(context), continuation))
        return rows

    @property
    def _about(self) -> str:
        """What tells this model's arithmetic from others'."""
        return f"{self.fingerprint} on {self.device.type}"

    def _score_batch(self, batch: list[_Row], labels: LabelTokens | None, *, exact: bool) -> dict[int, Scored]:
        rows = [(row.prefix, row.ids, row.start, row.continuation) for row in batch]
        values = scored_once((self._about, labels, exact, rows), partial(self._scores, batch, labels, exact))
        self._usage.prompt_tokens += sum(len(row.ids) for row in batch)
        self._usage.requests += len(batch)
        scores = {}
        for row, (total, of_labels) in zip(batch, values, strict=True):
            count = len(row.continuation)
            scores[row.index] = Scored(total / count if count else math.nan, count, of_labels)
        return scores

    def _scores(self, batch: list[_Row], labels: LabelTokens | None, exact: bool) -> list[Values]:
        cache, prefix_mask = self._decoder.prefix_cache([row.prefix for row in batch])  # (B, P)
        ids, mask = self._pad([row.ids for row in batch])  # (B, L)
        positions = torch.arange(ids.shape[1], device=self.device) + prefix_mask.sum(1, keepdim=True)
        full_mask = torch.cat([prefix_mask, mask], dim=1)
        hidden = self._decoder.forward(ids, full_mask, positions, cache)  # (B, L, D)
        sums = self._continuation_logprobs(hidden, batch)
        probabilities: list[tuple[float, ...]] = [()] * len(batch)
        if labels is not None:
            last = hidden[torch.arange(len(batch), device=self.device), mask.sum(1) - 1]  # (B, D)
            restricted = self._decoder.logits(last, labels.ids, exact=exact).softmax(-1)  # (B, labels)
            probabilities = [tuple(row) for row in restricted.tolist()]
        return list(zip(sums, probabilities, strict=True))

    def _continuation_logprobs(self, hidden: Tensor, batch: list[_Row]) -> list[float]:
        """Sum of log P(token | before it) over each row's continuation; logits are made for those positions alone."""
        where = [(b, row.start - 1 + i) for b, row in enumerate(batch) for i in range(len(row.continuation))]
        if not where:
            return [0.0] * len(batch)
        index = torch.tensor(where, device=self.device)
        targets = torch.tensor([token for row in batch for token in row.continuation], device=self.device)
        values = self._decoder.logprobs(hidden[index[:, 0], index[:, 1]], targets)
        sums = torch.zeros(len(batch), dtype=torch.float64, device=self.device)
        return sums.index_add_(0, index[:, 0], values.double()).tolist()

    # -- shared parts

    def _with_prefix(self, request: WriteRequest | ScoreRequest, ids: list[int]) -> list[int]:
        """What a row reads where its prefix is not kept."""
        return [*self._decoder.prefix_ids(request.prefix), *ids]

    def _end_ids(self) -> set[int]:
        return self._decoder.end_ids() | end_tokens(self._tokenizer)

    def _batches(self, rows: list[_Row], extra: int = 0) -> Iterator[list[_Row]]:
        """Rows of similar length; every row will have ``extra`` more tokens."""
        lengths = [len(row.ids) + extra for row in rows]
        for numbers in plan_batches(lengths, self._batch_tokens, max_rows=self._batch_rows):
            yield [rows[number] for number in numbers]

    def _pad(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        width = max(len(row) for row in rows)
        padded, mask = [], []
        for row in rows:
            gap = [0] * (width - len(row))
            padded.append(row + gap)
            mask.append([1] * len(row) + gap)
        return torch.tensor(padded, device=self.device), torch.tensor(mask, device=self.device)
