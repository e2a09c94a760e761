"""Trackers: services beside ``metrics.jsonl`` that are fed a run's numbers."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from gecko_core.errors import ConfigError


def check_trackers(names: Sequence[str]) -> None:
    """Check that the trackers are installed: accelerate would only warn and track nothing.

    Args:
        names: as in ``trainer.trackers``.

    Raises:
        ConfigError: one is not.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"trackers: {name} is not installed; pip install 'gecko-train[{name}]', or leave it out")
