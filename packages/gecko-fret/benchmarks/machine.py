"""What a benchmark's result has to say of the machine, and where the result goes."""

from __future__ import annotations

import os
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def described(*packages: str) -> str:
    """Date, processor, threads, Python and the versions of `packages`, in one line."""
    import torch

    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{date.today().isoformat()}; {cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads; "
        f"Python {platform.python_version()}, {versions}"
    )


def gpu_name(device: object) -> str:
    """The GPU's name after a comma; of a CPU nothing."""
    import torch

    place = torch.device(str(device))
    return f", {torch.cuda.get_device_name(place)}" if place.type == "cuda" else ""


def cpu_name() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def table(header: list[str], rows: list[list[object]]) -> list[str]:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def publish(name: str, lines: list[str]) -> None:
    """Prints a result and keeps it in `results/`."""
    text = "\n".join(lines) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    print(text, end="")
