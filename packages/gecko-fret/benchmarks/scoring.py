"""Pairs per second of scoring: the naive way, shared prefixes, and both scores from one pass, in one run.

    uv run python packages/gecko-fret/benchmarks/scoring.py

The shipped prompts, the packaged LLM, passages of the interpreter's documentation. The naive way runs every prompt in
full, padded to the longest of its batch, and makes the logits of every position.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from machine import described, publish, table
from test_bench_scoring import joint, naive, shared

from gecko_fret.corpus import python_docs
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.transformers import TransformersLLM
from gecko_fret.prompting import load_prompts, prompt_text

PAIRS, ROUNDS = 64, 3
QUERY = "how are elements of a list put in order"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    llm, prompts = TransformersLLM.load(LLMConfig()), load_prompts("default")
    passages = random.Random(0).sample(list(python_docs()), PAIRS)
    texts = llm.truncate([prompt_text(passage) for passage in passages], 128)
    pairs = [(prompts.kinds[i % len(prompts.kinds)], text, QUERY) for i, text in enumerate(texts)]
    shared(llm, prompts, pairs[:2])  # prefixes and kernels are warm
    ways: dict[str, Callable[..., Any]] = {"naive": naive, "shared prefix": shared, "joint": joint}
    seconds = {name: [] for name in ways}
    results = {}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.perf_counter()
            results[name] = way(llm, prompts, pairs)
            seconds[name].append(time.perf_counter() - began)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    tokens = full_tokens(llm, prompts, pairs)
    rows = [
        [name, f"{PAIRS / value:.1f}", f"{tokens / value:.0f}", f"{median['naive'] / value:.1f}x"]
        for name, value in median.items()
    ]
    worst = max(abs(a - b) for a, b in zip(results["naive"][0], results["shared prefix"][0], strict=True))
    publish(
        "scoring",
        [
            "# Scoring",
            "",
            f"{described('torch', 'transformers')}. SmolLM2-135M-Instruct, {llm.fingerprint.rpartition(':')[2]}; "
            f"{PAIRS} pairs, median of {ROUNDS} rounds, the ways in turn. Tokens per second count the two prompts of a "
            f"pair in full, {tokens} tokens in all, whichever way they are read.",
            "",
            *table(["way", "pairs/s", "prompt tokens/s", "gain"], rows),
            "",
            f"Largest difference of a QL between the naive way and shared prefixes: {worst:.3f}.",
        ],
    )


def full_tokens(llm: TransformersLLM, prompts: Any, pairs: list[tuple[str, str, str]]) -> int:
    """Tokens of both prompts of all pairs, prefixes included."""
    requests = [prompts.likelihood(*pair) for pair in pairs]
    requests += [prompts.classification(text, query) for _, text, query in pairs]
    return sum(len(row.ids) for row in llm._segments.score(requests))


if __name__ == "__main__":
    main()
