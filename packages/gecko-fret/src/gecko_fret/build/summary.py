"""What a build did, as its caller is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class FretSummary:
    """What a build did. ``seconds`` and ``tokens`` are by step and sum over all runs of the build."""

    path: Path
    complete: bool
    counts: dict[str, int] = field(default_factory=dict)
    rejects: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, dict[str, int]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return asdict(self) | {"path": str(self.path)}
