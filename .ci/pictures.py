"""The pictures of docs/tour.md, drawn from a finished run of the quickstart.

    uv run --with PyQt6-WebEngine python .ci/pictures.py runs/quickstart

The closing screen is printed again; the report is opened in a browser without a window.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from rich.console import Console

from gecko_core.io import read_json, write_text
from gecko_train.run.closing import closing_screen

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
WIDTH, HEIGHT = 1180, 1500  # pixels of the report
COLUMNS = 126  # of the screen


class Terminal(Console):
    """A terminal breaks long lines where they reach its edge; a recording would cut them off."""

    def print(self, *objects: object, soft_wrap: bool | None = None, **options: object) -> None:
        super().print(*objects, **options)


def closing(run: Path) -> None:
    """The end of the run, as a terminal shows it."""
    console = Terminal(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    closing_screen(console, read_json(run / "results.json"), Path("runs/quickstart"))
    write_text(PICTURES / "closing.svg", console.export_svg(title="uv run gecko-train"))


def report(run: Path) -> None:
    """The build's report, as a browser shows it."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ.setdefault("QTWEBENGINE_CHROMIUM_FLAGS", "--no-sandbox --disable-gpu")
    from PyQt6.QtCore import QTimer, QUrl
    from PyQt6.QtWebEngineWidgets import QWebEngineView
    from PyQt6.QtWidgets import QApplication

    application = QApplication(sys.argv[:1])
    view = QWebEngineView()
    view.resize(WIDTH, HEIGHT)
    drawn = lambda: (view.grab().save(str(PICTURES / "report.png")), application.quit())  # noqa: E731
    view.loadFinished.connect(lambda _: QTimer.singleShot(1500, drawn))
    view.load(QUrl.fromLocalFile(str((run / "fret" / "report.html").resolve())))
    view.show()
    application.exec()


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    closing(Path(sys.argv[1]))
    report(Path(sys.argv[1]))
