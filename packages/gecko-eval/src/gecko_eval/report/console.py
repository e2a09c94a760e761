"""A comparison as a table for the terminal and the lines below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gecko_core.errors import printable
from gecko_eval.report.compare import TaskComparison

if TYPE_CHECKING:
    from rich.table import Table


def comparison_table(rows: Sequence[TaskComparison], name: str, base: str) -> Table:
    """One row per task, with scores times 100.

    Args:
        rows: from ``compare_results``.
        name: the model that is compared.
        base: the model it is held against.
    """
    from rich.table import Table

    name, base = printable(name), printable(base)
    table = Table(title=f"{name} against {base}", title_justify="left")
    for column in ("task", name, base, "difference", "95% interval", "p", "p (Holm)", "wins / losses / ties", "over"):
        table.add_column(column, justify="left" if column in ("task", "over") else "right")
    table.add_column("verdict")
    for row in rows:
        table.add_row(*map(printable, _cells(row)))
    return table


def comparison_summary(rows: Sequence[TaskComparison], name: str) -> Iterator[str]:
    """How many tasks are better and worse, and a note where dims differ.

    Args:
        rows: from ``compare_results``.
        name: the model that is compared.
    """
    alike = [row for row in rows if row.same_data]
    tested = [row.comparison for row in alike if row.comparison]
    sure = [row for row in alike if row.comparison and row.comparison.significant]
    better, worse = _signs(sure)
    better_held, worse_held = _signs([row for row in sure if row.p_holm is not None and row.p_holm < 0.05])
    yield (
        f"{name} is ahead on {sum(row.score_a > row.score_b for row in alike)} of {len(alike)} tasks; significant at "
        f"95%: {better} better, {worse} worse ({better_held} and {worse_held} after Holm's correction for "
        f"{len(tested)} tasks)"
    )
    if len({row.dims for row in rows if "0" not in row.dims}) > 1:
        yield "note: the tasks are compared at different dims; --dim sets one for all"
    elif any(a != b and "0" not in (a, b) for a, b in (row.dims for row in rows)) and "@" not in name:
        yield "note: the two sides are compared at different dims; --dim sets one for both"


def _cells(row: TaskComparison) -> list[str]:
    sides = zip((row.score_a, row.score_b), row.dims, strict=True)
    scores = [f"{100 * score:.2f}" + (f" @{dim}" if dim != "0" else "") for score, dim in sides]
    cells = [row.task, *scores, f"{100 * (row.score_a - row.score_b):+.2f}"]
    comparison = row.comparison
    if comparison is None:
        return [*cells, "", "", "", "", "", row.verdict]
    interval = f"{100 * comparison.low:+.2f} to {100 * comparison.high:+.2f}"
    if not comparison.known:
        interval = "none (one item)"
    counts = (comparison.wins, comparison.losses, comparison.ties)
    compared = " / ".join(map(str, counts)) if sum(counts) > 1 else ""
    return [*cells, interval, f"{comparison.p_value:.4f}", f"{row.p_holm:.4f}", compared, row.note, row.verdict]


def _signs(rows: Sequence[TaskComparison]) -> tuple[int, int]:
    """How many rows are above zero, and how many are not."""
    above = sum(row.comparison is not None and row.comparison.difference > 0 for row in rows)
    return above, len(rows) - above
