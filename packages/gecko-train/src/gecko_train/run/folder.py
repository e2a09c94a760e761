"""The output folder of a run: whose it is, what is finished in it, and that nobody else writes there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import locked, write_json, write_text
from gecko_train.config import Recipe, dump_recipe

_RECIPE = "recipe.yaml"


class RunFolder:
    """A folder that belongs to one recipe; stages that finished are read back instead of run again."""

    def __init__(self, path: Path, writes: bool = True):
        self.path = path
        self.writes = writes  # False on all ranks but the first of a run on several devices

    @classmethod
    @contextmanager
    def claim(cls, path: str | Path, recipe: Recipe) -> Iterator[RunFolder]:
        """Take the folder for this recipe, new or begun earlier.

        Raises:
            ConfigError: it holds another run, something else, or a process that is still running. Nothing is changed.
            DataError: it cannot be written to.
        """
        path = Path(path)
        if int(os.environ.get("RANK", "0")) > 0:
            yield cls(path, writes=False)
            return
        own = yaml.safe_load(dump_recipe(recipe))
        _check(path, own)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{path}: cannot write there ({error.strerror}); choose another folder with --out"
            ) from None
        busy = ConfigError(f"{path}: another gecko-train is running there; wait for it, or use --out")
        with locked(path / ".lock", busy):
            if not (path / _RECIPE).exists():
                write_text(path / _RECIPE, dump_recipe(recipe))
            yield cls(path)

    def stage(self, name: str, work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The result of a stage: read back if it is finished, else worked out and kept."""
        finished = self.finished(name)
        if finished is None:
            write_json(self.path / "stages" / f"{name}.json", dict(work()))
            finished = self.finished(name)
            assert finished is not None
        return finished

    def finished(self, name: str) -> dict[str, Any] | None:
        """The result of a finished stage, or None."""
        path = self.path / "stages" / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None


def _check(path: Path, own: dict[str, Any]) -> None:
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path}: is a file; choose a folder with --out")
    if not path.is_dir() or not any(one.name != ".lock" for one in path.iterdir()):
        return
    if not (path / _RECIPE).exists():
        raise ConfigError(f"{path}: holds files that are not a run of gecko-train; choose another folder with --out")
    there = yaml.safe_load((path / _RECIPE).read_text(encoding="utf-8"))
    difference = _first_difference(there, own)
    if difference is not None:
        raise ConfigError(f"{path}: holds a run of another recipe ({difference}); choose another folder with --out")


def _first_difference(there: Any, own: Any, key: str = "") -> str | None:
    if key == "output":  # the folder may have been moved
        return None
    if isinstance(there, dict) and isinstance(own, dict):
        for name in [*own, *(name for name in there if name not in own)]:
            found = _first_difference(there.get(name), own.get(name), f"{key}.{name}".lstrip("."))
            if found:
                return found
        return None
    return None if there == own else f"{key}: {_short(there)} there, {_short(own)} here"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def peak_memory_gb() -> float:
    """Largest resident memory of this process so far, in GB (10^9 bytes)."""
    import resource

    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
