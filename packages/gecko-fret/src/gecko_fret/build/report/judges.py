"""What the judges were measured to be worth: tables for the report and for ``gecko-fret judges``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gecko_fret.build.report.base import ReportData, ReportSection
from gecko_fret.steps.known_items import SEEDS, SENTENCES, TITLES
from gecko_fret.steps.measured import CHANCE, FUSED, KNOWN, STUDENT

_KINDS = {
    KNOWN: ("Judges on known items", "{items} titles and sentences, and the passages that they were taken from"),
    TITLES: ("Titles alone", "{items} titles, and the passages below them"),
    SENTENCES: ("Sentences alone", "{items} sentences, and the passages that they were cut out of"),
    SEEDS: ("Judges on written queries", "{items} queries, and the passages that the LLM wrote them for"),
}
_TOO_KIND = "An LLM judges its own queries too kindly, so that nothing was fitted on these."


def judges(data: ReportData) -> Iterable[ReportSection]:
    """What the judges are worth on items whose answer is known, where the build measured it."""
    measured = data.manifest.get("judges")
    if measured:
        yield from judge_sections(measured)


def judge_sections(measured: Mapping[str, Any]) -> Iterable[ReportSection]:
    """The tables of one measurement.

    Args:
        measured: what the manifest holds under ``judges``.
    """
    for kind, (title, what) in _KINDS.items():
        found = measured["measured_on"].get(kind)
        if found:
            note = f"{what.format(items=found['items'])}, {found['candidates']:g} candidates each, 95% intervals. "
            note += {KNOWN: verdict(measured), SEEDS: _TOO_KIND}.get(kind, "")
            yield _rankings(title, note.strip(), measured, found)
            if kind == KNOWN:
                yield _agreement("Agreement of the judges", found["agreement"])


def verdict(measured: Mapping[str, Any]) -> str:
    """Which judges are worth their cost, and how far the teacher is above the student."""
    weights = measured["weights"]
    useful = [name for name, weight in weights.items() if weight > 0]
    useless = [name for name, weight in weights.items() if weight == 0]
    text = f"Worth asking: {', '.join(useful)}."
    if useless:
        text += f" Weight 0, adds nothing: {', '.join(useless)}."
    fused = measured["measured_on"][KNOWN]["rankings"][FUSED]
    if fused["above_student"] is None:
        return f"{text} The retriever's similarity was not among the judges, so the margin over it is unknown."
    margin = f"{fused['above_student']:+.3f} ({fused['above_student_low']:+.3f} to {fused['above_student_high']:+.3f})"
    if not any(fused[name] for name in ("above_student", "above_student_low", "above_student_high")):
        return f"{text} The teacher and the student find all of these items equally well: they are too few or too easy."
    if fused["above_student_high"] <= 0:
        return f"{text} The teacher is not above the student, {margin} MRR: nothing to distil."
    if fused["above_student_low"] <= 0:
        return f"{text} The teacher is above the student by {margin} MRR, which may be chance: little to distil."
    return f"{text} The teacher is above the student by {margin} MRR: something to distil."


def _rankings(title: str, note: str, measured: Mapping[str, Any], found: Mapping[str, Any]) -> ReportSection:
    weights, costs, rankings = measured["weights"], measured.get("tokens_per_pair", {}), found["rankings"]
    names = {STUDENT: f"{STUDENT} (the student)", FUSED: "all, fused", CHANCE: "chance"}
    rows = [
        (
            names.get(name, name),
            f"{row['mrr']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
            f"{row['ndcg']:.3f}",
            _difference(row),
            f"{weights[name]:.2f}" if name in weights else "-",
            f"{costs[name]:.0f}" if name in costs else "-",
        )
        for name, row in rankings.items()
    ]
    header = ("judge", "MRR", "95%", "nDCG@10", "MRR above the student", "weight", "LLM tokens a pair")
    points = [(row["low"], row["mrr"], row["high"]) for row in rankings.values()]
    return ReportSection(title, note, header, rows, intervals=points)


def _difference(row: Mapping[str, Any]) -> str:
    if row["above_student"] is None:
        return "-"
    return f"{row['above_student']:+.3f} ({row['above_student_low']:+.3f} to {row['above_student_high']:+.3f})"


def _agreement(title: str, table: Mapping[str, Mapping[str, float]]) -> ReportSection:
    names: Sequence[str] = list(table)
    rows = [(name, *(f"{table[name][other]:.2f}" for other in names)) for name in names]
    return ReportSection(title, "Mean rank correlation (Spearman) over the lists.", ("", *names), rows)
