"""What a build will cost: requests and tokens before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from gecko_fret.config import FretConfig
from gecko_fret.corpus import load_corpus
from gecko_fret.plan import prompt_sets, seed_count
from gecko_fret.progress import format_seconds

# Rough guesses, not measurements; the plan says "about".
_PASS_FILTERS = 0.65
_TOKENS_PER_CHARACTER = 0.25


@dataclass(frozen=True, slots=True)
class Cost:
    """Upper bounds on attempts and scored pairs, and the tokens of each stage, shared prefixes counted once."""

    attempts: int
    queries: int
    pairs: int
    passes: int
    read_writing: int
    written: int
    read_scoring: int

    def seconds(self, read_per_second: float, written_per_second: float) -> float:
        """Time at a given speed of reading and writing."""
        return (self.read_writing + self.read_scoring) / read_per_second + self.written / written_per_second


def estimate(config: FretConfig, passages: int, mean_characters: float) -> Cost:
    """The cost of a build on a corpus of `passages` passages of `mean_characters` characters on average.

    The round trip is left out of the account, since nobody knows in advance how many queries fail it.
    """
    seeds = passages if config.generate.seeds is None else min(config.generate.seeds, passages)
    attempts = seeds * config.generate.attempts
    queries = round(attempts * _PASS_FILTERS)
    pairs = queries * min(config.retrieve.candidates, passages)
    body = mean_characters * _TOKENS_PER_CHARACTER
    template = 12
    query = config.generate.max_new_tokens // 2
    passes = 1 if config.score.mode == "joint" else 2
    return Cost(
        attempts=attempts,
        queries=queries,
        pairs=pairs,
        passes=passes,
        read_writing=round(attempts * (min(body, config.generate.passage_tokens) + template)),
        written=attempts * query,
        read_scoring=round(pairs * passes * (min(body, config.score.passage_tokens) + query + template)),
    )


def describe_cost(config: FretConfig) -> str:
    """The plan of a build in a few lines; reads the corpus, loads no model."""
    section = config.corpus
    corpus = load_corpus(section.path, split=section.split, deduplicate=section.deduplicate, limit=section.limit)
    mean = sum(len(text) for text in corpus.texts) / len(corpus)
    cost = estimate(config, len(corpus), mean)
    writing, _ = prompt_sets(config)
    cpu, gpu = cost.seconds(1800, 120), cost.seconds(60_000, 6_000)
    return "\n".join(
        [
            f"corpus    {corpus.name}: {len(corpus)} passages of {mean:.0f} characters on average",
            f"write     {cost.attempts} attempts from {seed_count(config, corpus)} seeds, {len(writing.kinds)} kinds "
            f"of task: {cost.read_writing} tokens read, {cost.written} written",
            f"embed     {len(corpus)} passages",
            f"score     up to {cost.pairs} pairs x {cost.passes}: {cost.read_scoring} tokens read",
            f"requests  {cost.attempts + cost.pairs * cost.passes} at most",
            f"time      about {format_seconds(cpu)} of the LLM at 1800 tokens/s read and 120 written (135M on 2 CPU "
            f"cores), {format_seconds(gpu)} at 60000 and 6000",
        ]
    )
