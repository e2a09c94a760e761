"""Watching a stage of training: bars on a terminal, plain lines in a log, and always metrics.jsonl and curves.png."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console

from gecko_core.io import AppendedLines, make_progress, whole_path, write_text

_log = logging.getLogger(__name__)

# Panel: the keys it shows (a key that ends in * stands for all that begin so) and its title.
_CURVES = (
    (("loss",), "loss, by set"),
    (("learning_rate",), "learning rate"),
    (("gradient_norm",), "gradient norm"),
    (("positive_similarity", "negative_similarity", "in_batch_similarity"), "mean similarity to the query"),
    (("tokens_per_second",), "tokens per second"),
    (("eval/mean@*", "score"), "evaluation in the loop"),
)


#: Of a line, what a summary needs; one that was changed by hand or by the disk may lack it.
_SUMMED = ("loss", "seconds", "waited", "rows", "tokens")


@dataclass(frozen=True)
class TrainingSummary:
    """What a stage of training did."""

    steps: int
    rows: int
    tokens: int  # of all ranks, without padding, each distinct text of a batch (of a rank's share of it) once
    seconds: float
    waiting: float  # share of the time spent waiting for data
    first_loss: float  # mean over the first and the last tenth of the steps
    last_loss: float
    best_step: int | None = None  # of the checkpoints, where they were evaluated
    stopped_early: bool = False  # no better for as many evaluations as `patience` allows


def make_console() -> Console:
    """Standard output; a log file, which has no width, gets lines of 120 characters."""
    plain: dict[str, Any] = {"markup": False, "emoji": False}  # names may look like either
    console = Console(**plain)
    return console if console.is_terminal else Console(width=120, **plain)


class Watch:
    """Shows and records the steps of one stage.

    Args:
        folder: ``metrics.jsonl`` and ``curves.png`` go here. Lines of steps after ``done`` are dropped, so that a
            resumed run leaves each step once.
        title: name of the stage on the screen.
        total: optimizer steps of the stage.
        done: steps that an earlier process has finished.
        console: where to show; a terminal gets a bar, anything else a line every ``seconds``.
        trackers: objects with ``log(values, step=...)`` (accelerate's), fed the same numbers.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        total: int,
        *,
        done: int = 0,
        console: Console | None = None,
        seconds: float = 10.0,
        trackers: Any = None,
    ):
        self.folder = folder
        self.title = title
        self._trackers = trackers
        self._path = folder / "metrics.jsonl"
        kept = [line for line in read_metrics(self._path) if line["step"] <= done]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        if len(kept) < done:
            _log.warning(
                "%s: lacks %d of the %d steps so far; sums over steps lack them", self._path, done - len(kept), done
            )
        self._file = AppendedLines(self._path)
        self._progress = make_progress(True, console or Console(stderr=True), every=seconds)
        self._progress.start(title, total, done, "steps")

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(draw=kind is None)

    def step(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """Record a step.

        Args:
            step: steps finished, this one included.
            metrics: its numbers, and the name of its set.
        """
        self._file.write(json.dumps({"step": step, **metrics}))
        if self._trackers is not None:
            numbers = {key: value for key, value in metrics.items() if not isinstance(value, str)}
            self._trackers.log({f"{self.title}/{key}": value for key, value in numbers.items()}, step=step)
        self._progress.advance(note=f"loss {metrics['loss']:.3f}  {metrics['tokens_per_second']:,.0f} tok/s")

    def close(self, draw: bool = True) -> None:
        """Stop the bar and draw the curves."""
        self._progress.finish()
        self._file.close()
        if draw:
            draw_curves(self._path, self.folder / "curves.png", self.title)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of a metrics file; damaged ones are passed over, such as the last one of a process that was killed."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int) and not _damaged(line):
            lines.append(line)
    return lines


def _damaged(line: Mapping[str, Any]) -> bool:
    """Whether something else is where a number is summed up."""
    return any(key in line and not isinstance(line[key], int | float) for key in _SUMMED)


def summarise(
    lines: Sequence[Mapping[str, Any]], total: int, best: int | None, *, stopped_early: bool = False
) -> TrainingSummary:
    """Sum up a stage.

    Args:
        lines: the metrics of its steps.
        total: optimizer steps.
        best: step of the best checkpoint, where they were evaluated.
        stopped_early: whether there would have been more steps.
    """
    lines = [line for line in lines if all(key in line for key in _SUMMED)]
    losses = [line["loss"] for line in lines]
    tenth = max(1, len(losses) // 10)
    seconds = sum(line["seconds"] for line in lines)
    return TrainingSummary(
        steps=total,
        rows=sum(line["rows"] for line in lines),
        tokens=sum(line["tokens"] for line in lines),
        seconds=seconds,
        waiting=sum(line["waited"] for line in lines) / seconds if seconds else 0.0,
        first_loss=sum(losses[:tenth]) / tenth if losses else float("nan"),
        last_loss=sum(losses[-tenth:]) / tenth if losses else float("nan"),
        best_step=best,
        stopped_early=stopped_early,
    )


def draw_curves(metrics: Path, picture: Path, title: str) -> None:
    """Loss per set, learning rate, gradient norm, similarities, speed and evaluation over the steps, as one PNG.

    Args:
        metrics: a ``metrics.jsonl``.
        picture: the file to write.
        title: of the whole picture.
    """
    lines = read_metrics(metrics)
    if not lines:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # not pyplot: no global state, no display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (keys, label) in enumerate(_CURVES, start=1):
        axes = figure.add_subplot(2, 3, number)
        axes.set_xlabel("step")
        axes.set_title(label, fontsize=10)
        series = _loss_by_set(lines) if keys == ("loss",) else _series(keys, lines)
        for name, points in series.items():
            axes.plot(*zip(*points, strict=True), label=name.removesuffix("_similarity"), linewidth=1)
        if len(series) > 1:
            axes.legend(fontsize=8)
    figure.suptitle(title)
    with whole_path(picture) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


Points = list[tuple[int, float]]


def _loss_by_set(lines: list[dict[str, Any]]) -> dict[str, Points]:
    series: dict[str, Points] = {}
    for line in lines:
        series.setdefault(str(line.get("set", "")), []).append((line["step"], line["loss"]))
    return dict(sorted(series.items()))


def _series(patterns: tuple[str, ...], lines: list[dict[str, Any]]) -> dict[str, Points]:
    keys = dict.fromkeys(key for line in lines for key in line)
    shown = [key for key in keys if any(fnmatch(key, pattern) for pattern in patterns)]
    return {key: [(line["step"], line[key]) for line in lines if key in line] for key in shown}
