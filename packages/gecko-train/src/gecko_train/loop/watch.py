"""Watching a stage of training: bars on a terminal, plain lines in a log, and always metrics.jsonl and curves.png."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# Panel: the keys it shows (a key that ends in * stands for all that begin so) and its title.
_CURVES = (
    (("loss",), "loss, by set"),
    (("learning_rate",), "learning rate"),
    (("gradient_norm",), "gradient norm"),
    (("positive_similarity", "negative_similarity", "in_batch_similarity"), "mean similarity to the query"),
    (("tokens_per_second",), "tokens per second"),
    (("eval/mean@*", "score"), "evaluation in the loop"),
)


def make_console() -> Console:
    """Standard output; a log file, which has no width, gets lines of 120 characters."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


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
        self.total = total
        self.console = console or Console(stderr=True)
        self._seconds = seconds
        self._trackers = trackers
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.jsonl"
        kept = [line for line in read_metrics(self._path) if line["step"] <= done]
        self._path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = self._path.open("a")
        self._first = done
        self._started = self._shown = time.perf_counter()
        self._progress: Progress | None = None
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(), TextColumn("eta"), TimeRemainingColumn(), console=self.console,
            )  # fmt: skip
            self._task = self._progress.add_task(title, total=total, completed=done, note="")
            self._progress.start()
        elif done:
            self.console.print(f"{title}: goes on from step {done} of {total}", highlight=False)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(draw=kind is None)

    def step(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """Record step number ``step`` (1-based: steps finished)."""
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()
        if self._trackers is not None:
            numbers = {key: value for key, value in metrics.items() if not isinstance(value, str)}
            self._trackers.log({f"{self.title}/{key}": value for key, value in numbers.items()}, step=step)
        note = f"loss {metrics['loss']:.3f}  {metrics['tokens_per_second']:,.0f} tok/s"
        if self._progress is not None:
            self._progress.update(self._task, completed=step, note=note)
        elif time.perf_counter() - self._shown >= self._seconds or step == self.total:
            self._shown = time.perf_counter()
            left = (self._shown - self._started) / (step - self._first) * (self.total - step)
            self.console.print(
                f"{self.title}: step {step}/{self.total}  {note}  eta {clock(left)}", highlight=False, soft_wrap=True
            )

    def close(self, draw: bool = True) -> None:
        """Stop the bar and draw the curves."""
        if self._progress is not None:
            self._progress.stop()
        self._file.close()
        if draw:
            draw_curves(self._path, self.folder / "curves.png", self.title)


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of a metrics file; a last line that a killed process left unfinished is passed over."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def draw_curves(metrics: Path, picture: Path, title: str) -> None:
    """Loss per set, learning rate, gradient norm, similarities, speed and evaluation over the steps, as one PNG."""
    lines = read_metrics(metrics)
    if not lines:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # not pyplot: no global state, no display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6), layout="constrained")
    FigureCanvasAgg(figure)
    sets = sorted({str(line.get("set", "")) for line in lines})
    for place, (keys, label) in enumerate(_CURVES, start=1):
        axes = figure.add_subplot(2, 3, place)
        axes.set_xlabel("step")
        axes.set_title(label, fontsize=10)
        if place == 1:
            series = [(name, "loss", [line for line in lines if line.get("set", "") == name]) for name in sets]
        else:
            series = [(key, key, lines) for key in _present(keys, lines)]
        for name, key, chosen in series:
            points = [(line["step"], line[key]) for line in chosen if key in line]
            axes.plot(*zip(*points, strict=True), label=name.removesuffix("_similarity"), linewidth=1)
        if len(series) > 1:
            axes.legend(fontsize=8)
    figure.suptitle(title)
    temporary = picture.with_suffix(".tmp.png")
    figure.savefig(temporary, dpi=110)
    temporary.replace(picture)


def _present(patterns: tuple[str, ...], lines: list[dict[str, Any]]) -> list[str]:
    known = dict.fromkeys(key for line in lines for key in line)
    return [key for key in known if any(fnmatch(key, pattern) for pattern in patterns)]
