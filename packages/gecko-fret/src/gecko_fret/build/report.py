"""The report of a build: what was written, what survived, and how the two opinions of the LLM relate."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gecko_core.errors import DataError
from gecko_core.io import write_text
from gecko_fret.build.folder import Workspace
from gecko_fret.corpus.splitting import count_words
from gecko_fret.steps import MINE, RETRIEVE, Candidate, MinedRow

_EXAMPLES = 5
_TEXT_CHARACTERS = 280


@dataclass(slots=True)
class Section:
    """A titled table with a sentence above it; `bar` is the column that is also drawn."""

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]] = ()
    bar: int | None = None


def write_report(out: str | Path) -> tuple[Path, Path]:
    """Writes report.md and report.html into a FRet folder and returns their paths. Raises `DataError`.

    Both depend on the data alone: the same folder gives the same bytes.
    """
    workspace = Workspace(out)
    manifest = workspace.read_manifest()
    if manifest is None:
        raise DataError(f"{out}: not a FRet folder (no manifest.json); make one with: gecko-fret build --out {out}")
    sections = make_sections(workspace, manifest)
    paths = workspace.out / "report.md", workspace.out / "report.html"
    write_text(paths[0], to_markdown(sections))
    write_text(paths[1], to_html(sections))
    return paths


def make_sections(workspace: Workspace, manifest: dict[str, Any]) -> list[Section]:
    """All sections of the report, from the parts on disk."""
    rows = list(workspace.parts(MINE))
    counts, rejects = workspace.counts(), workspace.reject_counts()
    passed = counts["retrieved"] - sum(rejects.get("retrieve", {}).values())
    sections = [
        _made_from(manifest),
        _funnel(counts, passed, manifest["config"]["retrieve"]["seed_top_k"]),
        _rejects(rejects),
    ]
    sections.append(_seed_ranks(workspace))
    if rows:
        sections += [
            _labels(rows),
            _tasks(rows),
            _lengths(rows),
            _agreement(rows),
            *_examples(rows, workspace),
        ]
    return sections


def _made_from(manifest: dict[str, Any]) -> Section:
    models, corpus, config = manifest["models"], manifest["corpus"], manifest["config"]
    top_k = config["retrieve"]["seed_top_k"]
    rows: list[Sequence[Any]] = [
        ("corpus", f"{corpus['name']}, {corpus['passages']} passages, sha256 {corpus['sha256'][:12]}"),
        *(("query writer", f"{g['name']} ({g['hash'][:26]})") for g in models["generators"]),
        ("scorer", f"{models['llm']['name']} ({models['llm']['hash'][:26]})"),
        ("embedder", f"{models['embedder']['name']} ({models['embedder']['hash'][:12]})"),
        ("candidates per query", config["retrieve"]["candidates"]),
        ("round trip", f"seed in the top {top_k}" if top_k else "off"),
        ("scoring", config["score"]["mode"]),
        ("labels", f"positive {config['mine']['positive']}, negative {config['mine']['negative']}"),
        ("seed number", config["seed"]),
    ]
    return Section("Made from", "The full configuration is in manifest.json.", ("what", "which"), rows)


def _funnel(counts: dict[str, int], passed: int, top_k: int | None) -> Section:
    trip = f"queries with their seed in the top {top_k}" if top_k else "queries scored (round trip off)"
    steps = [
        ("attempts at a query", counts["attempts"]),
        ("queries that passed the filters", counts["queries"]),
        (trip, passed),
        ("rows of training data", counts["rows"]),
    ]
    first = max(steps[0][1], 1)
    rows = [(label, count, f"{count / first:.1%}") for label, count in steps]
    return Section("What survives", "Each step as a share of the attempts.", ("step", "count", "share"), rows, bar=1)


def _rejects(rejects: dict[str, dict[str, int]]) -> Section:
    rows = [(stage, reason, count) for stage, reasons in rejects.items() for reason, count in reasons.items()]
    note = "Every rejected text is in rejects/ with its reason." if rows else "Nothing was rejected."
    return Section("Rejects", note, ("stage", "reason", "count"), rows, bar=2)


def _seed_ranks(workspace: Workspace) -> Section:
    ranks = Counter(row.seed_rank for row in workspace.parts(RETRIEVE))
    total = max(sum(ranks.values()), 1)
    known = sorted(rank for rank in ranks if rank is not None)
    rows: list[Sequence[Any]] = [(rank, ranks[rank], f"{ranks[rank] / total:.1%}") for rank in known]
    if ranks[None]:
        rows.append(("not found", ranks[None], f"{ranks[None] / total:.1%}"))
    note = "Rank of the seed passage among the neighbours of its own query, all queries."
    return Section("Where the seed is", note, ("rank", "queries", "share"), rows, bar=1)


def _labels(rows: list[MinedRow]) -> Section:
    moved = sum(row.positive_id != row.seed_id for row in rows)
    without = sum(not row.negative_ids for row in rows)
    ranks = [next((i for i, c in enumerate(r.candidates, 1) if c.id == r.seed_id), None) for r in rows]
    fused = [rank for rank in ranks if rank is not None]
    relevance = [_candidate(row, row.positive_id).rc for row in rows]
    facts: list[Sequence[Any]] = [
        ("rows", len(rows)),
        ("positive is not the seed (the paper: about 15%)", f"{moved / len(rows):.1%}"),
        ("median place of the seed after fusing", f"{np.median(fused):g}" if fused else "-"),
        ("mean expected label of the positive, 0 to 4", f"{np.mean(relevance):.2f}"),
        ("rows without a negative", without),
    ]
    return Section("Labels", "What the fused ranking decided.", ("what", "value"), facts)


def _tasks(rows: list[MinedRow]) -> Section:
    counts = Counter(row.task for row in rows)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:40]
    table = [(task, n, f"{n / len(rows):.1%}") for task, n in ordered]
    return Section("Tasks", "Rows by task string, the 40 most frequent.", ("task", "rows", "share"), table, bar=1)


def _lengths(rows: list[MinedRow]) -> Section:
    counts = Counter(min(count_words(row.query) // 4, 10) for row in rows)
    table = [
        (f"{step * 4} to {step * 4 + 3}" if step < 10 else "40 and more", n, f"{n / len(rows):.1%}")
        for step, n in sorted(counts.items())
    ]
    return Section("Query lengths", "Words per query.", ("words", "rows", "share"), table, bar=1)


def _agreement(rows: list[MinedRow]) -> Section:
    """How alike QL and RC order the candidates: Spearman's rho of the ranks, per query."""
    values = [_spearman(row.candidates) for row in rows if len(row.candidates) > 2]
    same_top = sum(any(c.rank_ql == 1 and c.rank_rc == 1 for c in row.candidates) for row in rows)
    edges = [-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0]
    counts = np.histogram(values, bins=edges)[0].tolist()
    table = [(f"{low:+.2f} to {high:+.2f}", int(n)) for low, high, n in zip(edges, edges[1:], counts, strict=False)]
    mean = f"{np.mean(values):.2f}" if values else "-"
    same = f"{same_top / len(rows):.1%}"
    note = f"Rank correlation of QL and RC per query: mean {mean}; the same first candidate in {same}."
    return Section("Agreement of the two scores", note, ("rank correlation", "queries"), table, bar=1)


def _spearman(candidates: list[Candidate]) -> float:
    """Spearman's rho of two rankings without ties: 1 - 6 sum d^2 / (n (n^2 - 1))."""
    n = len(candidates)
    return 1 - 6 * sum((c.rank_ql - c.rank_rc) ** 2 for c in candidates) / (n * (n * n - 1))


def _examples(rows: list[MinedRow], workspace: Workspace) -> list[Section]:
    """Rows whose positive the LLM likes best and least, by expected label, then by query likelihood."""

    def liking(row: MinedRow) -> tuple[float, float, str]:
        positive = _candidate(row, row.positive_id)
        return positive.rc, positive.ql, row.id

    ordered = sorted(rows, key=liking, reverse=True)
    count = min(_EXAMPLES, max(len(ordered) // 2, 1))
    sections = []
    for title, chosen in (("Best rows", ordered[:count]), ("Worst rows", ordered[-count:][::-1])):
        table = []
        for row in chosen:
            positive = _candidate(row, row.positive_id)
            negative = workspace.corpus.get(row.negative_ids[0]).full_text if row.negative_ids else "-"
            shown = workspace.corpus.get(row.positive_id).full_text
            score = f"label {positive.rc:.2f}, ql {positive.ql:.2f}"
            table.append((row.task, row.query, _short(shown), _short(negative), score))
        note = "By the positive's expected label, then its query likelihood."
        sections.append(
            Section(title, note, ("task", "query", "positive", "negative", "scores of the positive"), table)
        )
    return sections


def _candidate(row: MinedRow, identifier: str) -> Candidate:
    return next(candidate for candidate in row.candidates if candidate.id == identifier)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_CHARACTERS else line[: _TEXT_CHARACTERS - 1].rstrip() + "…"


def to_markdown(sections: Sequence[Section]) -> str:
    """The report as GitHub-flavoured Markdown."""
    lines = ["# FRet report", ""]
    for section in sections:
        lines += [f"## {section.title}", "", section.note, ""]
        if section.rows:
            lines.append("| " + " | ".join(section.header) + " |")
            lines.append("|" + "---|" * len(section.header))
            lines += ["| " + " | ".join(str(v).replace("|", "\\|") for v in row) + " |" for row in section.rows]
            lines.append("")
    return "\n".join(lines)


_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
h2{margin-top:2.2rem}table{border-collapse:collapse;width:100%}th{text-align:left;border-bottom:2px solid #c8ced6}
td{border-bottom:1px solid #e6e9ee;padding:.25rem .8rem .25rem 0;vertical-align:top}.n{white-space:nowrap;width:40%}
.b{display:inline-block;height:.7em;background:#3b82c4;margin-right:.5em}p{color:#4a5561}"""


def to_html(sections: Sequence[Section]) -> str:
    """The report as one HTML page without scripts or outside parts."""
    body = ["<h1>FRet report</h1>"]
    for section in sections:
        body.append(f"<h2>{html.escape(section.title)}</h2><p>{html.escape(section.note)}</p>")
        if section.rows:
            head = "".join(f"<th>{html.escape(name)}</th>" for name in section.header)
            most = max((row[section.bar] for row in section.rows), default=0) if section.bar is not None else 0
            lines = "".join(f"<tr>{_cells(row, section.bar, most)}</tr>" for row in section.rows)
            body.append(f"<table><tr>{head}</tr>{lines}</table>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>FRet report</title>'
        f"<style>{_STYLE}</style><body>{''.join(body)}</body></html>\n"
    )


def _cells(row: Sequence[Any], bar: int | None, most: int) -> str:
    cells = []
    for column, value in enumerate(row):
        text = html.escape(str(value))
        if column == bar:
            width = 60 * value / most if most else 0
            cells.append(f'<td class="n"><span class="b" style="width:{width:.1f}%"></span>{text}</td>')
        else:
            cells.append(f"<td>{text}</td>")
    return "".join(cells)
