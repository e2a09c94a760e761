"""The sections of the report: what was written, what survived, and how the two scores of the LLM relate.

Further sections are functions in files of their own, listed in ``SECTIONS`` below.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from gecko_fret.build.report.apart import apart
from gecko_fret.build.report.base import ReportData, ReportSection
from gecko_fret.build.report.diversity import diversity, kinds
from gecko_fret.build.report.judges import judges
from gecko_fret.build.report.queries import USERS, WRITTEN, filtered_queries
from gecko_fret.build.report.style import style
from gecko_fret.corpus.splitting import count_words
from gecko_fret.steps import FILTER, MINE, RETRIEVE, WRITE, Candidate, MinedRow

_EXAMPLES = 5
_TEXT_CHARACTERS = 280


def made_from(data: ReportData) -> Iterable[ReportSection]:
    """Corpus, models and the settings that matter most."""
    manifest = data.manifest
    models, corpus, config = manifest["models"], manifest["corpus"], manifest["config"]
    top_k = config["retrieve"]["seed_top_k"]
    rows: list[Sequence[Any]] = [
        ("corpus", f"{corpus['name']}, {corpus['passages']} passages, sha256 {corpus['sha256'][:12]}"),
        *(("query writer", f"{g['name']} ({g['hash'][:26]})") for g in models["generators"]),
        *(("scorer", f"{g['name']} ({g['hash'][:26]})") for g in [models["llm"]] if g),
        ("embedder", f"{models['embedder']['name']} ({models['embedder']['hash'][:12]})"),
        ("candidates per query", config["retrieve"]["candidates"]),
        ("round trip", f"seed in the top {top_k}" if top_k else "off"),
        ("scoring", config["score"]["mode"]),
        ("labels", f"positive {config['mine']['positive']}, negative {config['mine']['negative']}"),
        ("seed number", config["seed"]),
    ]
    yield ReportSection("Made from", "The full configuration is in manifest.json.", ("what", "which"), rows)


def survivors(data: ReportData) -> Iterable[ReportSection]:
    """How many attempts become rows, step by step."""
    top_k = data.manifest["config"]["retrieve"]["seed_top_k"]
    names = data.manifest["config"]["generate"].get("sources", [WRITTEN])
    of_log = ", or without one" if USERS in names else ""
    trip = f"queries with their seed in the top {top_k}{of_log}" if top_k else "queries scored (round trip off)"
    steps = [
        ("attempts at a query", data.count(WRITE)),
        ("queries that passed the filters", data.count(FILTER)),
        (trip, data.count(RETRIEVE) - sum(data.rejects.get(RETRIEVE.name, {}).values())),
        ("rows of training data", data.count(MINE)),
    ]
    note = "Each step as a share of the attempts."
    whole, shown = data.count(WRITE), 0
    if names != [WRITTEN]:
        note = "Each step as a share of the queries that passed the filters: those of other sources had no attempts."
        whole, shown = data.count(FILTER), 1
    rows = [
        (label, count, f"{count / max(whole, 1):.1%}" if place >= shown else "-")
        for place, (label, count) in enumerate(steps)
    ]
    yield ReportSection("What survives", note, ("step", "count", "share"), rows, bar=1)


def sources(data: ReportData) -> Iterable[ReportSection]:
    """Queries and rows by source, where there are others than the LLM."""
    names = data.manifest["config"]["generate"].get("sources", ["llm"])
    if names == ["llm"]:
        return
    parts = data.workspace.parts(FILTER)
    queries: dict[str, str] = {}
    for number in parts.numbers():
        table = parts.table(number)
        queries |= dict(zip(table["id"].to_pylist(), table["source"].to_pylist(), strict=True))
    found, kept = Counter(queries.values()), Counter(queries[row.id] for row in data.rows)
    table = [(name, found[name], kept[name]) for name in names]
    yield ReportSection(
        "Sources", "Where the queries come from, and how many are rows.", ("source", "queries", "rows"), table, bar=2
    )


def rejects(data: ReportData) -> Iterable[ReportSection]:
    """Rejected texts by step and reason."""
    rows = [(step, reason, count) for step, reasons in data.rejects.items() for reason, count in reasons.items()]
    note = "Every rejected text is in rejects/ with its reason." if rows else "Nothing was rejected."
    yield ReportSection("Rejects", note, ("stage", "reason", "count"), rows, bar=2)


def seed_ranks(data: ReportData) -> Iterable[ReportSection]:
    """Where queries find their own seeds; those of a log have none."""
    ranks = Counter(row.seed_rank for row in data.workspace.parts(RETRIEVE))
    seedless = sum(query.seed_id is None for query in filtered_queries(data))
    ranks[None] -= seedless
    total = max(sum(ranks.values()), 1)
    known = sorted(rank for rank in ranks if rank is not None)
    rows: list[Sequence[Any]] = [(rank, ranks[rank], f"{ranks[rank] / total:.1%}") for rank in known]
    if ranks[None]:
        rows.append(("not found", ranks[None], f"{ranks[None] / total:.1%}"))
    others = f"all queries but {seedless} without a seed" if seedless else "all queries"
    note = f"Rank of the seed passage among the neighbours of its own query, {others}."
    yield ReportSection("Where the seed is", note, ("rank", "queries", "share"), rows, bar=1)


def labels(data: ReportData) -> Iterable[ReportSection]:
    """How positives and negatives were chosen."""
    rows = data.answered
    if not data.rows:
        return
    seeded = [row for row, _ in rows if row.seed_id is not None]
    moved = sum(row.positive_id != row.seed_id for row in seeded)
    ranks = [next((i for i, c in enumerate(r.candidates, 1) if c.id == r.seed_id), None) for r in data.rows]
    fused = [rank for rank in ranks if rank is not None]
    relevance = [positive.rc for _, positive in rows if positive.rc is not None]
    probable = [positive.probability for _, positive in rows if positive.probability is not None]
    facts: list[Sequence[Any]] = [
        ("rows", len(data.rows)),
        ("rows with a positive", f"{len(rows)} ({len(rows) / len(data.rows):.1%})"),
        ("positive is not the seed (the paper: about 15%)", f"{moved / len(seeded):.1%}" if seeded else "-"),
        ("median place of the seed after fusing", f"{np.median(fused):g}" if fused else "-"),
        *([("mean expected label of the positive, 0 to 4", f"{np.mean(relevance):.2f}")] if relevance else []),
        *([("mean probability of the positive", f"{np.mean(probable):.2f}")] if probable else []),
        ("rows with a positive and no negative", sum(not row.negative_ids for row, _ in rows)),
    ]
    yield ReportSection("Labels", "What the fused ranking decided.", ("what", "value"), facts)


def tasks(data: ReportData) -> Iterable[ReportSection]:
    """Rows by task."""
    rows = data.rows
    if not rows:
        return
    counts = Counter(row.task for row in rows)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:40]
    table = [(task, n, f"{n / len(rows):.1%}") for task, n in ordered]
    yield ReportSection("Tasks", "Rows by task string, the 40 most frequent.", ("task", "rows", "share"), table, bar=1)


def lengths(data: ReportData) -> Iterable[ReportSection]:
    """Queries by their number of words."""
    rows = data.rows
    if not rows:
        return
    counts = Counter(min(count_words(row.query) // 4, 10) for row in rows)
    table = [
        (f"{step * 4} to {step * 4 + 3}" if step < 10 else "40 and more", n, f"{n / len(rows):.1%}")
        for step, n in sorted(counts.items())
    ]
    yield ReportSection("Query lengths", "Words per query.", ("words", "rows", "share"), table, bar=1)


def agreement(data: ReportData) -> Iterable[ReportSection]:
    """How similarly QL and RC order the candidates: Spearman's rho of the ranks, per query."""
    rows = [row for row in data.rows if all(c.rank_ql and c.rank_rc for c in row.candidates)]
    if not rows:
        return
    values = [_spearman(row.candidates) for row in rows if len(row.candidates) > 2]
    same_top = sum(any(c.rank_ql == 1 and c.rank_rc == 1 for c in row.candidates) for row in rows)
    edges = [-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0]
    counts = np.histogram(values, bins=edges)[0].tolist()
    table = [(f"{low:+.2f} to {high:+.2f}", int(n)) for low, high, n in zip(edges, edges[1:], counts, strict=False)]
    mean = f"{np.mean(values):.2f}" if values else "-"
    same = f"{same_top / len(rows):.1%}"
    note = f"Rank correlation of QL and RC per query: mean {mean}; the same first candidate in {same}."
    yield ReportSection("Agreement of the two scores", note, ("rank correlation", "queries"), table, bar=1)


def _spearman(candidates: list[Candidate]) -> float:
    """Spearman's rho: the correlation of the ranks, which have no ties."""
    ranks = np.array([(candidate.rank_ql, candidate.rank_rc) for candidate in candidates])
    return float(np.corrcoef(ranks.T)[0, 1])


def examples(data: ReportData) -> Iterable[ReportSection]:
    """The rows whose positives are judged best and worst: by probability, or by expected label and likelihood."""
    if not data.answered:
        return

    def judgement(example: tuple[MinedRow, Candidate]) -> tuple[float, float, float, str]:
        row, positive = example
        return positive.probability or 0.0, positive.rc or 0.0, positive.ql or 0.0, row.id

    ordered = sorted(data.answered, key=judgement, reverse=True)
    count = min(_EXAMPLES, max(len(ordered) // 2, 1))
    note = "By the positive's probability, its expected label, then its query likelihood."
    header = ("task", "query", "positive", "negative", "scores of the positive")
    for title, chosen in (("Best rows", ordered[:count]), ("Worst rows", ordered[-count:][::-1])):
        yield ReportSection(title, note, header, [_example(row, positive, data) for row, positive in chosen])


def _example(row: MinedRow, positive: Candidate, data: ReportData) -> tuple[str, ...]:
    negative = _short(data.full_text(row.negative_ids[0])) if row.negative_ids else "-"
    shown = {"probability": positive.probability, "label": positive.rc, "ql": positive.ql}
    scores = ", ".join(f"{name} {value:.2f}" for name, value in shown.items() if value is not None)
    return row.task, row.query, _short(data.full_text(positive.id)), negative, scores


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_CHARACTERS else line[: _TEXT_CHARACTERS - 1].rstrip() + "…"


#: The report, section by section. To add one, write its function (in a file of its own) and put it here.
SECTIONS: list[Callable[[ReportData], Iterable[ReportSection]]] = [
    made_from,
    survivors,
    sources,
    rejects,
    seed_ranks,
    judges,
    labels,
    tasks,
    lengths,
    kinds,
    diversity,
    style,
    apart,
    agreement,
    examples,
]
