"""The transformers backend: batched, with the shared prefix computed once and logits only where they are read."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gecko_core.errors import ModelError
from gecko_fret.llm.attention import grouped_attention
from gecko_fret.llm.fingerprint import files_fingerprint
from gecko_fret.llm.loading import load_tokenizer
from gecko_fret.llm.protocol import (
    Completion,
    LabelTokens,
    Sampling,
    Scored,
    ScoreRequest,
    Usage,
    WriteRequest,
)
from gecko_fret.llm.sampling import StopWatch, draw_tokens, uniform_numbers
from gecko_fret.llm.segments import SegmentTokenizer

_PREFIXES_KEPT = 32
_LOGIT_ROWS = 512  # rows of a logits block: 512 x 50k x 4 bytes = 100 MB


@dataclass(slots=True)
class _Row:
    """One request as token ids, and where its continuation begins."""

    index: int
    prefix: str
    ids: list[int]
    start: int
    continuation: list[int]


class TransformersLLM:
    """A causal language model of the transformers library, on CPU or GPU.

    Rows are sorted by length and packed into batches of at most `batch_tokens` padded tokens; which rows share a batch
    depends only on the call, so equal calls give equal bits on one machine. Text segments (prefix, context,
    continuation, tail) are tokenised one by one, so that the prefix's keys and values serve all rows.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str, fingerprint: str, batch_tokens: int, batch_rows: int):
        self.name, self.fingerprint, self.usage = name, fingerprint, Usage()
        self._model, self._tokenizer = model.eval(), tokenizer
        self._segments = SegmentTokenizer(tokenizer, name)
        self._decoder, self._head = model.get_decoder(), model.get_output_embeddings()
        self._batch_tokens, self._batch_rows = batch_tokens, batch_rows
        self._prefixes: OrderedDict[str, tuple[int, list[tuple[Tensor, Tensor]]]] = OrderedDict()
        self._check_head()

    @classmethod
    def load(
        cls,
        model: str,
        *,
        dtype: str = "auto",
        device: str | None = None,
        batch_tokens: int = 8192,
        batch_rows: int = 64,
    ) -> TransformersLLM:
        """Loads a folder, a packaged model or a hub id. Raises `ModelError` naming the model and the cure."""
        from transformers import AutoModelForCausalLM

        from gecko_core.folder import resolve

        found = resolve(model)
        where = str(found.path) if found.path is not None else found.hub_id
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        options: dict[str, Any] = {"gguf_file": found.gguf_file} if found.gguf_file else {}
        try:
            if found.gguf_file:
                from transformers import GgufConfig

                options["quantization_config"] = GgufConfig(dequantize=True)
            loaded = AutoModelForCausalLM.from_pretrained(
                where, dtype=pick_dtype(dtype, place), attn_implementation=grouped_attention(place), **options
            )
        except (OSError, ValueError, ImportError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"LLM {model!r}: cannot be loaded as a causal language model ({reason})") from None
        fingerprint = files_fingerprint(found.path, found.gguf_file) if found.path is not None else str(found.hub_id)
        return cls(
            loaded.to(place),
            load_tokenizer(model),
            name=model,
            fingerprint=f"{fingerprint}:{str(loaded.dtype).removeprefix('torch.')}",
            batch_tokens=batch_tokens,
            batch_rows=batch_rows,
        )

    @property
    def device(self) -> torch.device:
        return self._model.device

    def close(self) -> None:
        self._prefixes.clear()

    def truncate(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        return self._segments.truncate(texts, max_tokens)

    # -- writing

    @torch.inference_mode()
    def generate(self, requests: Sequence[WriteRequest], sampling: Sampling) -> list[Completion]:
        bodies = self._segments.encode([request.body for request in requests])
        rows = [_Row(i, r.prefix, ids, len(ids), []) for i, (r, ids) in enumerate(zip(requests, bodies, strict=True))]
        results: list[Completion | None] = [None] * len(rows)
        for batch in self._batches(rows, extra=sampling.max_new_tokens):
            seeds = [requests[row.index].seed for row in batch]
            for row, completion in self._generate_batch(batch, seeds, sampling):
                results[row.index] = completion
        return [result for result in results if result is not None]

    def _generate_batch(
        self, batch: list[_Row], seeds: list[int], sampling: Sampling
    ) -> Iterator[tuple[_Row, Completion]]:
        """Decodes one batch; rows that have stopped leave it, so that late steps are not spent on finished rows."""
        cache, prefix_mask = self._prefix_cache([row.prefix for row in batch])
        ids, mask = self._pad([row.ids for row in batch], left=True)
        mask = torch.cat([prefix_mask, mask], dim=1)
        watch = StopWatch(self._tokenizer, sampling, self._end_ids())
        draws = uniform_numbers(seeds, sampling.max_new_tokens).to(self.device)
        alive = list(range(len(batch)))
        positions = mask.cumsum(1)[:, prefix_mask.shape[1] :] - 1
        tokens: list[list[int]] = [[] for _ in batch]
        logprobs: list[list[float]] = [[] for _ in batch]
        self.usage.prompt_tokens += sum(len(row.ids) for row in batch)
        self.usage.requests += len(batch)
        for step in range(sampling.max_new_tokens):
            hidden = self._forward(ids, mask, positions.clamp(min=0), cache)
            logits = self._logits(hidden[:, -1])
            chosen, logprob = draw_tokens(logits, draws[alive, step], sampling)
            for which, token, value in zip(alive, chosen.tolist(), logprob.tolist(), strict=True):
                tokens[which].append(token)
                logprobs[which].append(value)
            going = [place for place, which in enumerate(alive) if not watch.finished(tokens[which])]
            if not going:
                break
            ids = chosen[:, None]
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
            positions = positions[:, -1:] + 1
            if len(going) < len(alive):
                keep = torch.tensor(going, device=self.device)
                cache.batch_select_indices(keep)
                ids, mask, positions = ids[keep], mask[keep], positions[keep]
                alive = [alive[place] for place in going]
        for row, written, values in zip(batch, tokens, logprobs, strict=True):
            self.usage.generated_tokens += len(written)
            text, finished = watch.text(written)
            yield row, Completion(text, sum(values) / max(len(values), 1), len(written), finished)

    # -- scoring

    @torch.inference_mode()
    def score(self, requests: Sequence[ScoreRequest], labels: Sequence[str] = ()) -> list[Scored]:
        lead_and_ids = self._segments.labels(labels) if labels else None
        rows = self._score_rows(requests, lead_and_ids)
        results: list[Scored | None] = [None] * len(rows)
        for batch in self._batches(rows):
            for row, scored in self._score_batch(batch, lead_and_ids):
                results[row.index] = scored
        return [result for result in results if result is not None]

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
            rows.append(_Row(index, requests[index].prefix, context + read, len(context), continuation))
        return rows

    def _score_batch(self, batch: list[_Row], labels: LabelTokens | None) -> Iterator[tuple[_Row, Scored]]:
        cache, prefix_mask = self._prefix_cache([row.prefix for row in batch])  # (B, P)
        ids, mask = self._pad([row.ids for row in batch], left=False)  # (B, L)
        positions = torch.arange(ids.shape[1], device=self.device) + prefix_mask.sum(1, keepdim=True)
        full_mask = torch.cat([prefix_mask, mask], dim=1)
        hidden = self._forward(ids, full_mask, positions, cache)  # (B, L, D)
        self.usage.prompt_tokens += sum(len(row.ids) for row in batch)
        self.usage.requests += len(batch)
        sums = self._continuation_logprobs(hidden, batch)
        probabilities: list[tuple[float, ...]] = [()] * len(batch)
        if labels is not None:
            last = hidden[torch.arange(len(batch), device=self.device), mask.sum(1) - 1]  # (B, D)
            restricted = self._logits(last, labels.ids).softmax(-1)  # (B, labels)
            probabilities = [tuple(row) for row in restricted.tolist()]
        for row, total, label in zip(batch, sums, probabilities, strict=True):
            count = len(row.continuation)
            yield row, Scored(total / count if count else math.nan, count, label)

    def _continuation_logprobs(self, hidden: Tensor, batch: list[_Row]) -> list[float]:
        """Sum of log P(token | before it) over each row's continuation; logits are made for those positions alone."""
        where = [(b, row.start - 1 + i) for b, row in enumerate(batch) for i in range(len(row.continuation))]
        if not where:
            return [0.0] * len(batch)
        index = torch.tensor(where, device=self.device)
        targets = torch.tensor([token for row in batch for token in row.continuation], device=self.device)
        states = hidden[index[:, 0], index[:, 1]]  # (tokens, D)
        values = []
        for block, wanted in zip(states.split(_LOGIT_ROWS), targets.split(_LOGIT_ROWS), strict=True):
            logits = self._logits(block)
            values.append(logits.gather(1, wanted[:, None])[:, 0] - logits.logsumexp(-1))
        sums = torch.zeros(len(batch), dtype=torch.float64, device=self.device)
        return sums.index_add_(0, index[:, 0], torch.cat(values).double()).tolist()

    # -- shared parts

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        output = self._decoder(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        return output.last_hidden_state

    def _logits(self, hidden: Tensor, rows: list[int] | None = None) -> Tensor:
        """fp32 logits over the vocabulary, or over the tokens in `rows` alone."""
        if rows is None:
            logits = self._head(hidden).float()
        else:
            bias = getattr(self._head, "bias", None)
            logits = torch.nn.functional.linear(
                hidden, self._head.weight[rows], None if bias is None else bias[rows]
            ).float()
        cap = getattr(self._model.config.get_text_config(), "final_logit_softcapping", None)
        return logits if not cap else torch.tanh(logits / cap) * cap

    def _prefix_cache(self, prefixes: Sequence[str]) -> tuple[Any, Tensor]:
        """Keys and values of every row's prefix, shorter ones padded on the left, and their mask (B, P)."""
        from transformers import DynamicCache

        distinct = {prefix: self._prefix(prefix) for prefix in dict.fromkeys(prefixes)}
        width = max(length for length, _ in distinct.values())
        lengths = torch.tensor([distinct[prefix][0] for prefix in prefixes], device=self.device)
        mask = (torch.arange(width, device=self.device) >= width - lengths[:, None]).long()
        cache = DynamicCache()
        if not width:
            return cache, mask
        order = list(distinct)
        which = torch.tensor([order.index(prefix) for prefix in prefixes], device=self.device)
        for layer in range(len(next(layers for length, layers in distinct.values() if length))):
            pair = []
            for kind in (0, 1):
                example = next(layers[layer][kind] for length, layers in distinct.values() if length)
                states = example.new_zeros(len(order), example.shape[1], width, example.shape[3])  # (P, H, W, D)
                for row, (length, layers) in enumerate(distinct.values()):
                    if length:
                        states[row, :, width - length :] = layers[layer][kind][0]
                pair.append(states[which])
            cache.update(*pair, layer)
        return cache, mask

    def _prefix(self, prefix: str) -> tuple[int, list[tuple[Tensor, Tensor]]]:
        """Number of tokens of a prefix, and its keys and values, (1, H, P, D) each, by layer; computed once."""
        if prefix not in self._prefixes:
            ids = self._segments.encode([prefix], special=True)[0]
            layers: list[tuple[Tensor, Tensor]] = []
            if ids:
                output = self._decoder(input_ids=torch.tensor([ids], device=self.device), use_cache=True)
                layers = [(layer.keys, layer.values) for layer in output.past_key_values.layers]
                self.usage.prefix_tokens += len(ids)
            self._prefixes[prefix] = (len(ids), layers)
            if len(self._prefixes) > _PREFIXES_KEPT:
                self._prefixes.popitem(last=False)
        self._prefixes.move_to_end(prefix)
        return self._prefixes[prefix]

    def _end_ids(self) -> set[int]:
        ends = self._model.generation_config.eos_token_id if self._model.generation_config else None
        ids = set(ends if isinstance(ends, (list, tuple)) else [ends])
        return {i for i in ids | {self._tokenizer.eos_token_id} if i is not None}

    def _batches(self, rows: list[_Row], extra: int = 0) -> Iterator[list[_Row]]:
        """Rows of like length together, longest first, so that a batch that does not fit memory fails at once."""
        batch: list[_Row] = []
        width = 0
        for row in sorted(rows, key=lambda r: (-len(r.ids), r.index)):
            width = width or len(row.ids) + extra
            if batch and ((len(batch) + 1) * width > self._batch_tokens or len(batch) == self._batch_rows):
                yield batch
                batch, width = [], len(row.ids) + extra
            batch.append(row)
        if batch:
            yield batch

    def _pad(self, rows: list[list[int]], left: bool) -> tuple[Tensor, Tensor]:
        width = max(len(row) for row in rows)
        padded, mask = [], []
        for row in rows:
            gap = [0] * (width - len(row))
            padded.append(gap + row if left else row + gap)
            mask.append(gap + [1] * len(row) if left else [1] * len(row) + gap)
        return torch.tensor(padded, device=self.device), torch.tensor(mask, device=self.device)

    @torch.inference_mode()
    def _check_head(self) -> None:
        """Models may scale or cap logits after the head; scoring skips that code, so it must come out the same."""
        ids = torch.arange(4, device=self.device)[None]
        expected = self._model(input_ids=ids, use_cache=False).logits[0, -1].float().log_softmax(-1)
        hidden = self._decoder(input_ids=ids, use_cache=False).last_hidden_state[0, -1:]
        if not torch.allclose(self._logits(hidden)[0].log_softmax(-1), expected, atol=0.05):
            raise ModelError(
                f"LLM {self.name!r}: its logits are not its output layer's; use the vllm or openai backend"
            )


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`: bf16 on GPUs and on CPUs with bf16 arithmetic, else fp32."""
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cpu":
        supported = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return torch.bfloat16 if supported else torch.float32
    return torch.bfloat16
