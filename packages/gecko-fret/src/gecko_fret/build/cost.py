"""What a build will cost, known before it starts: upper bounds, or the shares that an earlier build has counted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from gecko_core.errors import DataError
from gecko_core.io import format_seconds
from gecko_fret.build.folder import Workspace
from gecko_fret.config import FretConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.prompting import load_prompts
from gecko_fret.steps.write import seed_count

_TOKENS_PER_CHARACTER = 0.25  # English text; only where no build has been measured
_TEMPLATE_TOKENS = 12


@dataclass(frozen=True, slots=True)
class Shares:
    """What becomes of an attempt, and what it costs, as a finished build has counted it.

    accepted: queries per attempt; kept: queries within the round trip per query; rows: rows per query kept.
    Seconds are of the machine and the models of that build, the loading of the models included.
    """

    accepted: float
    kept: float
    rows: float
    read_per_attempt: float
    written_per_attempt: float
    read_per_pair: float
    seconds_per_attempt: float
    seconds_per_pair: float
    pairs_per_query: float
    passes: int

    @classmethod
    def of(cls, folder: str | Path) -> Shares:
        """Reads a build's manifest. Raises `DataError` for a folder without a finished build."""
        manifest = Workspace(folder).read_manifest()
        if manifest is None or not manifest.get("complete"):
            raise DataError(f"{folder}: holds no finished build whose shares could be taken; finish one there first")
        return cls.from_manifest(manifest)

    @classmethod
    def from_manifest(cls, manifest: dict[str, Any]) -> Shares:
        """The shares of a finished build."""
        counts, tokens, stages = manifest["counts"], manifest["tokens"], manifest["stages"]
        kept = counts["retrieved"] - sum(manifest["rejects"].get("retrieve", {}).values())
        attempts, pairs = counts["attempts"], counts["scored_pairs"]
        return cls(
            accepted=counts["queries"] / attempts,
            kept=kept / counts["queries"],
            rows=counts["rows"] / kept,
            read_per_attempt=tokens["write"]["prompt_tokens"] / attempts,
            written_per_attempt=tokens["write"]["generated_tokens"] / attempts,
            read_per_pair=tokens["score"]["prompt_tokens"] / pairs,
            seconds_per_attempt=stages["write"]["seconds"] / attempts,
            seconds_per_pair=stages["score"]["seconds"] / pairs,
            pairs_per_query=pairs / kept,
            passes=_passes(manifest["config"]["score"]["mode"]),
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """Attempts, scored pairs and rows of a build, and the tokens of each stage, shared prefixes left out."""

    attempts: float
    pairs: float
    rows: float
    passes: int
    read_writing: float
    written: float
    read_scoring: float

    @property
    def requests(self) -> float:
        return self.attempts + self.pairs * self.passes

    def seconds(self, read_per_second: float, written_per_second: float) -> float:
        """Time of the LLM at a given speed of reading and writing."""
        return (self.read_writing + self.read_scoring) / read_per_second + self.written / written_per_second


def estimate(config: FretConfig, passages: int, mean_characters: float, shares: Shares | None = None) -> Cost:
    """The cost of a build on a corpus of `passages` passages of `mean_characters` characters on average.

    shares: those of an earlier build; without them every attempt is taken to become a row, which is the upper bound.
    """
    seeds = passages if config.generate.seeds is None else min(config.generate.seeds, passages)
    attempts = seeds * config.generate.attempts
    candidates = min(config.retrieve.candidates, passages)
    if shares is not None:
        return cost_of(attempts, shares, candidates=candidates, passes=_passes(config.score.mode))
    body, query = mean_characters * _TOKENS_PER_CHARACTER, config.generate.max_new_tokens
    pairs, passes = attempts * candidates, _passes(config.score.mode)
    return Cost(
        attempts=attempts,
        pairs=pairs,
        rows=attempts,
        passes=passes,
        read_writing=round(attempts * (min(body, config.generate.passage_tokens) + _TEMPLATE_TOKENS)),
        written=attempts * query,
        read_scoring=round(pairs * passes * (min(body, config.score.passage_tokens) + query + _TEMPLATE_TOKENS)),
    )


def cost_of(attempts: float, shares: Shares, *, candidates: float | None = None, passes: int | None = None) -> Cost:
    """The cost of so many attempts, everything else as in the build that the shares are of unless given."""
    queries = attempts * shares.accepted * shares.kept
    candidates, passes = candidates or shares.pairs_per_query, passes or shares.passes
    pairs = queries * candidates
    return Cost(
        attempts=attempts,
        pairs=pairs,
        rows=queries * shares.rows,
        passes=passes,
        read_writing=attempts * shares.read_per_attempt,
        written=attempts * shares.written_per_attempt,
        read_scoring=pairs * shares.read_per_pair * passes / shares.passes,
    )


def cost_of_rows(rows: float, shares: Shares) -> Cost:
    """What `rows` rows cost in a build like the one that the shares are of."""
    return cost_of(rows / (shares.accepted * shares.kept * shares.rows), shares)


def describe_cost(config: FretConfig, corpus: Corpus, like: str | Path | None = None) -> str:
    """The plan of a build in a few lines; loads no model. like: folder of a finished build."""
    shares = Shares.of(like) if like is not None else None
    mean = pc.sum(pc.utf8_length(corpus.table["text"])).as_py() / len(corpus)
    cost = estimate(config, len(corpus), mean, shares)
    writing = load_prompts(config.generate.prompt)
    bound = "about" if shares else "at most"
    lines = [
        f"corpus    {corpus.name}: {len(corpus)} passages of {mean:.0f} characters on average",
        f"write     {cost.attempts:.0f} attempts from {seed_count(config, corpus)} seeds, {len(writing.kinds)} kinds "
        f"of task: {cost.read_writing:.0f} tokens read, {bound} {cost.written:.0f} written",
        f"embed     {len(corpus)} passages",
        f"score     {bound} {cost.pairs:.0f} pairs x {cost.passes}: {cost.read_scoring:.0f} tokens read",
        f"requests  {bound} {cost.requests:.0f}",
        f"rows      {bound} {cost.rows:.0f}",
    ]
    return "\n".join(lines + (_measured(cost, shares, like) if shares else _supposed(cost)))


def _supposed(cost: Cost) -> list[str]:
    cpu, gpu = format_seconds(cost.seconds(1800, 120)), format_seconds(cost.seconds(60_000, 6_000))
    return [
        f"time      at most {cpu} of the LLM if it reads 1800 and writes 120 tokens/s, {gpu} at 60000 and 6000; "
        "--like FOLDER takes shares and speed from a build of yours"
    ]


def _measured(cost: Cost, shares: Shares, like: str | Path | None) -> list[str]:
    million = cost_of_rows(1e6, shares)
    return [
        f"time      about {format_seconds(measured_seconds(cost, shares))} at the speed of {like}",
        f"a million rows like those: {million.attempts:.3g} attempts, {million.pairs:.3g} pairs, "
        f"{million.read_writing + million.read_scoring:.3g} tokens read, {million.written:.3g} written, "
        f"{format_seconds(measured_seconds(million, shares))}",
    ]


def measured_seconds(cost: Cost, shares: Shares) -> float:
    """Time of writing and scoring at the speed of the build that the shares are of."""
    scoring = cost.pairs * shares.seconds_per_pair * cost.passes / shares.passes
    return cost.attempts * shares.seconds_per_attempt + scoring


def _passes(mode: str) -> int:
    return 1 if mode == "joint" else 2
