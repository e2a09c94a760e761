"""What a build will cost, known before it starts: upper bounds, or the rates that an earlier build has measured."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from gecko_core.errors import DataError
from gecko_core.io import format_seconds
from gecko_core.threads import usable_cores
from gecko_fret.build.folder import Workspace
from gecko_fret.config import FretConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.steps import STEPS
from gecko_fret.steps.plan import Measured, Plan

#: Tokens per second of SmolLM2-135M-Instruct in bfloat16 on one core of an AMD EPYC (2026-11-27, CPU time, beside other
#: work): it read 470 to 550, and wrote 100 with contrastive decoding. Cores are taken to add up.
_READ_BY_A_CORE, _WRITTEN_BY_A_CORE = 500, 100


#: What every build counts.
_COUNTED = ("attempts", "queries", "retrieved", "scored_pairs", "rows")


@dataclass(frozen=True, slots=True)
class Scaled:
    """A finished build scaled to another number of rows."""

    attempts: float
    pairs: float
    read: float
    written: float
    seconds: float


def read_measured(folder: str | Path) -> Measured:
    """What a finished build measured.

    Raises:
        DataError: the folder holds no finished build.
    """
    manifest = Workspace(folder).read_manifest()
    if manifest is None or not manifest.get("complete"):
        raise DataError(f"{folder}: holds no finished build whose rates could be used; finish one there first")
    try:
        measured = Measured.from_manifest(manifest)
        missing = next((name for name in _COUNTED if name not in measured.counts), None)
    except KeyError as error:
        missing = str(error.args[0])
    if missing is not None:
        raise DataError(f"{Workspace(folder).manifest_path}: lacks {missing!r}; take the rates of another build")
    return measured


def estimate(
    config: FretConfig, passages: int, mean_characters: float, like: Measured | None = None, *, corpus: str = "corpus"
) -> Plan:
    """Plan a build on a corpus. See ``Plan`` for the arguments."""
    plan = Plan(config, corpus, passages, mean_characters, like)
    for step in STEPS:
        cost = step.estimate(plan)
        if cost is not None:
            plan.costs[step.name] = cost
    return plan


def scale_to_rows(rows: float, measured: Measured) -> Scaled:
    """What ``rows`` rows cost in a build like the measured one."""
    factor = rows / measured.counts["rows"]
    metered = [step.name for step in STEPS if step.metered]
    tokens = [measured.tokens.get(name, {}) for name in metered]
    return Scaled(
        attempts=measured.counts["attempts"] * factor,
        pairs=measured.counts["scored_pairs"] * factor,
        read=sum(counters.get("prompt_tokens", 0) for counters in tokens) * factor,
        written=sum(counters.get("generated_tokens", 0) for counters in tokens) * factor,
        seconds=sum(measured.seconds.get(name, 0.0) for name in metered) * factor,
    )


def describe_cost(config: FretConfig, corpus: Corpus, like: str | Path | None = None) -> str:
    """The plan of a build in a few lines; loads no model.

    Args:
        config: the build's configuration.
        corpus: its passages.
        like: folder of a finished build whose rates are used.

    Raises:
        DataError: ``like`` holds no finished build.
    """
    measured = read_measured(like) if like is not None else None
    mean = pc.sum(pc.utf8_length(corpus.table["text"])).as_py() / len(corpus)
    plan = estimate(config, len(corpus), mean, measured, corpus=corpus.name)
    lines = [f"{name:<9} {cost.line}" for name, cost in plan.costs.items()]
    if corpus.dropped:
        reasons = Counter(dropped.reason for dropped in corpus.dropped)
        lines.insert(1, "left out  " + ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items())))
    lines.append(f"requests  {plan.bound} {plan.requests:.0f}")
    lines.append(f"rows      {plan.bound} {plan.rows['rows']:.0f}")
    return "\n".join(lines + (_measured(plan, measured, like) if measured else _assumed(plan)))


def _assumed(plan: Plan) -> list[str]:
    cores = usable_cores()
    read, written = cores * _READ_BY_A_CORE, cores * _WRITTEN_BY_A_CORE
    cpu, gpu = format_seconds(plan.seconds(read, written)), format_seconds(plan.seconds(60_000, 6_000))
    return [
        f"time      at most {cpu} of the LLM if it reads {read} and writes {written} tokens/s, as SmolLM2-135M does on "
        f"{_cores(cores)}; {gpu} at 60000 and 6000"
    ]


def _cores(count: int) -> str:
    return "one core" if count == 1 else f"{count} cores"


def _measured(plan: Plan, measured: Measured, like: str | Path | None) -> list[str]:
    cores = usable_cores()
    differ = measured.threads is not None and measured.threads != cores
    note = f", which had {_cores(measured.threads or 1)} where this process has {cores}" if differ else ""
    unknown = [name for name, cost in plan.costs.items() if not cost.measured]
    without = f", without {' and '.join(unknown)}: nothing of it was done there" if unknown else ""
    time = f"time      about {format_seconds(plan.measured_seconds)} at the speed of {like}{note}{without}"
    if not measured.counts["rows"]:
        return [time]
    million = scale_to_rows(1e6, measured)
    return [
        time,
        f"a million rows like those: {million.attempts:.3g} attempts, {million.pairs:.3g} pairs, "
        f"{million.read:.3g} tokens read, {million.written:.3g} written, {format_seconds(million.seconds)}",
    ]
