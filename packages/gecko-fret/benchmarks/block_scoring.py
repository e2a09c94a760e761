"""Pairs per second of the judges `ql` and `yes-no`: every prompt in full, shared prefixes, blocks; in one run.

    uv run python packages/gecko-fret/benchmarks/block_scoring.py
    uv run python packages/gecko-fret/benchmarks/block_scoring.py --device cuda

The shipped prompts, the packaged LLM, passages of the interpreter's documentation, titles of others as queries, at 1 to
96 queries a passage. The naive way runs both prompts of a pair in full, padded to the longest of its batch, and makes
the logits of every position. "Joint" is what a build does by default: `ql` is read on the way to `yes-no`, and an empty
query of each passage calibrates the labels. One thread, whose CPU time is measured: other work on the machine then
changes little. On a GPU there are 64 times as many passages, and it is the time that passes. Beside the pairs: the
floating-point operations of all products and of attention, as PyTorch counts them, in a second of it, as a share of
what the largest product of the LLM's layers reaches by itself.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from machine import described, gpu_name, publish, table
from torch.utils.flop_counter import FlopCounterMode

from gecko_fret.config import FretConfig
from gecko_fret.corpus import python_docs
from gecko_fret.judges.base import EMPTY_QUERY
from gecko_fret.judges.yes_no import YesNoBlock
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.protocol import Scored, ScoreRequest
from gecko_fret.llm.transformers import TransformersLLM
from gecko_fret.prompting import PromptSet, load_prompt, load_prompts, prompt_text

ROUNDS, NAIVE_PAIRS, SHARED_PAIRS, NAIVE_BATCH = 3, 8, 16, 8
#: Times as many pairs, passages and rows of a batch on a GPU, which the numbers above would leave idle.
ON_GPU = 64
#: Queries a passage, and passages.
DENSITIES = [(1, 16), (5, 16), (20, 6), (96, 2)]
Pair = tuple[str, str, str]
Calls = list[tuple[list[ScoreRequest], Sequence[str]]]


class Judges:
    """The requests of pairs (kind of task, passage, query)."""

    def __init__(self, prompts: PromptSet, yes_no: YesNoBlock):
        self._prompts, self._yes_no = prompts, yes_no

    def two(self, pairs: Sequence[Pair]) -> Calls:
        """Likelihood and yes or no, a prompt each."""
        return [
            ([self._prompts.likelihood(*pair) for pair in pairs], ()),
            ([self._yes_no.classification(text, query) for _, text, query in pairs], self._yes_no.label_strings),
        ]

    def joint(self, pairs: Sequence[Pair]) -> Calls:
        """Likelihood and yes or no from one prompt, and an empty query of each passage."""
        empty = [(text, EMPTY_QUERY) for text in dict.fromkeys(text for _, text, _ in pairs)]
        requests = [self._yes_no.joint(text, query) for text, query in [(t, q) for _, t, q in pairs] + empty]
        return [(requests, self._yes_no.label_strings)]

    def likelihood(self, pairs: Sequence[Pair]) -> Calls:
        """The same without labels, as they are where `yes-no` has no weight."""
        return [([replace(self._yes_no.joint(text, query), tail="") for _, text, query in pairs], ())]


@torch.inference_mode()
def naive(llm: TransformersLLM, calls: Calls) -> list[list[Scored]]:
    """Full prompts in padded batches, all logits, with the attention that transformers chooses."""
    model, segments = llm._decoder._model, llm._segments
    attention = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    results = []
    for requests, labels in calls:
        tokens = segments.labels(labels) if labels else None
        rows, scored = segments.score(requests, tokens.lead if tokens else ()), []
        size = NAIVE_BATCH * min(4, larger(llm.device))  # all logits of a batch have to fit
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            width = max(len(row.ids) for row in chunk)
            ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in chunk], device=llm.device)
            mask = torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in chunk], device=llm.device)
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
            for place, row in enumerate(chunk):
                logprobs = logits[place, row.start - 1 : row.end - 1].log_softmax(-1)
                targets = torch.tensor(row.ids[row.start : row.end], device=llm.device)
                mean = logprobs.gather(1, targets[:, None].long()).mean().item()
                last = logits[place, len(row.ids) - 1, tokens.ids].softmax(-1).tolist() if tokens else []
                scored.append(Scored(mean, row.end - row.start, tuple(last)))
        results.append(scored)
    model.set_attn_implementation(attention)
    return results


def shared(llm: TransformersLLM, calls: Calls) -> list[list[Scored]]:
    """Rows of their own after the prefix that all share."""
    return [llm.score(requests, labels) for requests, labels in calls]


def blocks(llm: TransformersLLM, calls: Calls) -> list[list[Scored]]:
    """Continuations of one passage side by side."""
    return [llm.score(requests, labels, blocks=True) for requests, labels in calls]


def operations(way: Callable[..., list[list[Scored]]], llm: TransformersLLM, calls: Calls) -> float:
    """Floating-point operations of all products and of attention."""
    with FlopCounterMode(display=False) as counted:
        way(llm, calls)
    return float(counted.get_total_flops())


def peak(llm: TransformersLLM, clock: Callable[[], float]) -> float:
    """Operations per second of the largest product of a layer with 2,048 tokens."""
    model = llm._decoder._model
    width, inner = model.config.hidden_size, model.config.intermediate_size
    kind = {"dtype": model.dtype, "device": llm.device}
    x, weight, best = torch.randn(2048, width, **kind), torch.randn(inner, width, **kind), float("inf")
    for _ in range(10):
        began = clock()
        for _ in range(larger(llm.device)):
            product = torch.nn.functional.linear(x, weight)
        product[0, 0].item()  # waits for the device
        best = min(best, (clock() - began) / larger(llm.device))
    return 2 * 2048 * width * inner / best


def larger(device: torch.device) -> int:
    """Times as much work as on a CPU."""
    return 1 if device.type == "cpu" else ON_GPU


def load(device: str = "cpu") -> tuple[TransformersLLM, Judges, list[str], list[str]]:
    """The LLM, the judges' prompts, passages and queries."""
    llm = TransformersLLM.load(LLMConfig(device=device))
    judges = Judges(load_prompts("default"), load_prompt(FretConfig().score.yes_no.prompt, YesNoBlock))
    draw, docs = random.Random(0), list(python_docs())
    queries = [doc.title for doc in draw.sample([doc for doc in docs if doc.title and len(doc.title.split()) > 3], 96)]
    texts = [prompt_text(doc) for doc in draw.sample(docs, 32 * larger(llm.device))]
    return llm, judges, llm.truncate(texts, 128), queries


def problem(queries: int, passages: int) -> tuple[TransformersLLM, Judges, list[Pair]]:
    """The LLM, the judges' prompts, and so many queries of each passage."""
    llm, judges, texts, titles = load()
    kind = load_prompts("default").kinds[1]
    return llm, judges, [(kind, text, query) for text in texts[:passages] for query in titles[:queries]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    torch.set_num_threads(1)
    llm, judges, texts, queries = load(device)
    times, clock = larger(llm.device), time.process_time if llm.device.type == "cpu" else time.perf_counter
    naive_pairs, shared_pairs = NAIVE_PAIRS * times, SHARED_PAIRS * times
    kinds, draw = load_prompts("default").kinds, random.Random(1)
    unit = "pairs per second" if times > 1 else "pairs per CPU second"
    rows: list[list[Any]] = []
    worst = best = 0.0
    for count, passages in DENSITIES:
        pairs = [(kinds[1], text, query) for text in texts[: passages * times] for query in draw.sample(queries, count)]
        mixed = [(kinds[place % len(kinds)], text, query) for place, (_, text, query) in enumerate(pairs)]
        part = pairs[:: max(1, len(pairs) // shared_pairs)][:shared_pairs]
        ways: dict[str, tuple[Callable[..., list[list[Scored]]], Calls, int]] = {
            "naive": (naive, judges.two(part[:naive_pairs]), min(naive_pairs, len(part))),
            "shared prefix": (shared, judges.two(part), len(part)),
            "blocks, a prompt each": (blocks, judges.two(pairs), len(pairs)),
            "blocks, a prompt each, four kinds of task": (blocks, judges.two(mixed), len(pairs)),
            "blocks, joint": (blocks, judges.joint(mixed), len(pairs)),
            "blocks, ql of the joint prompt": (blocks, judges.likelihood(mixed), len(pairs)),
        }
        if times > 1:  # the first passes load and compile kernels
            for way, calls, _ in ways.values():
                way(llm, [(requests[:NAIVE_BATCH], labels) for requests, labels in calls])
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        work = {name: operations(way, llm, calls) / number for name, (way, calls, number) in ways.items()}
        for _ in range(ROUNDS):
            best = max(best, peak(llm, clock))
            for name, (way, calls, number) in ways.items():
                began = clock()
                way(llm, calls)  # its results are numbers: the device is done
                seconds[name].append((clock() - began) / number)
        gains = {
            name: statistics.median(a / b for a, b in zip(seconds["naive"], values, strict=True))
            for name, values in seconds.items()
        }
        rates = {name: work[name] / statistics.median(values) for name, values in seconds.items()}
        rows += [
            [count, name, f"{1 / statistics.median(values):.1f}", f"{gains[name]:.1f}x", rates[name]]
            for name, values in seconds.items()
        ]
        print(*table(["queries", "way", unit, "gain", "operations/s"], rows[-len(ways) :]), sep="\n", flush=True)
        checked = judges.two(pairs[:NAIVE_PAIRS])
        exact, found = naive(llm, checked)[0], blocks(llm, checked)[0]
        worst = max(worst, *(abs(a.logprob - b.logprob) for a, b in zip(exact, found, strict=True)))
    publish(
        "block_scoring" if times == 1 else f"block_scoring_{llm.device.type}",
        [
            "# Block scoring",
            "",
            f"{described('torch', 'transformers')}{gpu_name(llm.device)}. SmolLM2-135M-Instruct, "
            f"{llm.fingerprint.rpartition(':')[2]}; passages of python-docs cut to 128 tokens. Pairs scored by `ql` "
            "and `yes-no`. `joint`, the default: `ql` is read on the way to `yes-no`; last, where `yes-no` has no "
            "weight and is not asked. "
            f"{'Time' if times > 1 else 'CPU time'}, median of {ROUNDS} rounds, the ways in turn; the gain is the "
            f"median of the rounds' ratios. The peak, of the layers' largest product: {best / 1e9:.0f} GFLOP/s.",
            "",
            *table(
                ["queries a passage", "way", unit, "gain", "share of the peak"],
                [[*row, f"{rate / 1e9:.0f} GFLOP/s, {100 * rate / best:.0f}%"] for *row, rate in rows],
            ),
            "",
            "With a prompt each and four kinds of task `ql` has four instructions, and so four readings of a passage.",
            "",
            f"Largest difference of a `ql` between the naive way and blocks: {worst:.3f}.",
        ],
    )


if __name__ == "__main__":
    main()
