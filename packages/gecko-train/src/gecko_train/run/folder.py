"""The output folder of a run: whose it is, what is finished in it, and that nobody else writes there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import locked, read_json, read_yaml, remove_leftovers, write_json, write_text
from gecko_train.config import Recipe, dump_recipe

_RECIPE = "recipe.yaml"


class RunFolder:
    """A folder that belongs to one recipe; steps that finished are read back instead of run again.

    Args:
        path: the folder.
        recipe: what is run in it.
        writes: False on all ranks but the first of a run on several devices.
    """

    def __init__(self, path: Path, recipe: Recipe, writes: bool = True):
        self.path = path
        self.recipe = recipe
        self.writes = writes

    @classmethod
    @contextmanager
    def claim(cls, path: str | Path, recipe: Recipe) -> Iterator[RunFolder]:
        """Take the folder for this recipe, new or begun earlier. A run of an earlier version goes on as it was.

        Args:
            path: the folder.
            recipe: the recipe; one that an earlier version wrote is the same under the new names.

        Yields:
            The folder, locked against other processes.

        Raises:
            ConfigError: it holds another run, something else, or a process is running there. Nothing is changed.
            DataError: it cannot be written to.
        """
        path = Path(path)
        recipe = _as_begun(path, recipe)
        if int(os.environ.get("RANK", "0")) > 0:
            yield cls(path, recipe, writes=False)
            return
        _check(path, recipe)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{path}: cannot write there ({error.strerror}); choose another folder with --out"
            ) from None
        busy = ConfigError(f"{path}: another gecko-train is running there; wait for it, or use --out")
        with locked(path / ".lock", busy):
            remove_leftovers(path)
            if not (path / _RECIPE).exists():
                write_text(path / _RECIPE, dump_recipe(recipe))
            yield cls(path, recipe)

    def stage(self, name: str, work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The result of a step: read back if it is finished, else computed and kept.

        Args:
            name: the step's name.
            work: computes the result.
        """
        finished = self.finished(name)
        if finished is not None:
            return finished
        result = dict(work())
        if not self.writes:
            return result
        write_json(self._file(name), result)
        return self.finished(name) or result

    def finished(self, name: str) -> dict[str, Any] | None:
        """The result of a finished step, or None.

        Raises:
            DataError: its file is damaged.
        """
        path = self._file(name)
        if not path.exists():
            return None
        result: dict[str, Any] = read_json(path, cure="remove the file to run this step again")
        return result

    def _file(self, name: str) -> Path:
        return self.path / "stages" / f"{name}.json"


def _as_begun(path: Path, recipe: Recipe) -> Recipe:
    """The recipe; in a folder from before ``finetune.interpolate``, the trained model is the result, as it was then."""
    if recipe.finetune.interpolate != "auto" or not (path / _RECIPE).is_file():
        return recipe
    if not _lacks_interpolation(read_yaml(path / _RECIPE, "recipe")):
        return recipe
    fields = type(recipe.finetune).model_fields
    as_then = {name: fields[name].get_default(call_default_factory=True) for name in ("interpolation", "known_items")}
    finetune = recipe.finetune.model_copy(update={**as_then, "interpolate": None})
    return recipe.model_copy(update={"finetune": finetune})


def _lacks_interpolation(earlier: dict[str, Any]) -> bool:
    return isinstance(earlier.get("finetune"), dict) and "interpolate" not in earlier["finetune"]


def _check(path: Path, recipe: Recipe) -> None:
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path}: is a file; choose a folder with --out")
    if not path.is_dir() or all(entry.name == ".lock" or entry.match(".*.tmp") for entry in path.iterdir()):
        return  # a process that was killed while it wrote the recipe leaves a lock and a temporary file
    if not (path / _RECIPE).exists():
        raise ConfigError(f"{path}: holds files that are not a run of gecko-train; choose another folder with --out")
    earlier = read_yaml(path / _RECIPE, "recipe")
    if _lacks_interpolation(earlier):
        earlier["finetune"]["interpolate"] = None
    with suppress(ValidationError):  # of a later version: the comparison names the first key that differs
        earlier = Recipe.model_validate(Recipe.upgrade(earlier)).model_dump(mode="json")
    difference = _first_difference(earlier, recipe.model_dump(mode="json"))
    if difference is not None:
        raise ConfigError(f"{path}: holds a run of another recipe ({difference}); choose another folder with --out")


def _first_difference(earlier: Any, wanted: Any, key: str = "") -> str | None:
    if key == "output":  # the folder may have been moved
        return None
    if isinstance(earlier, dict) and isinstance(wanted, dict):
        names = [*wanted, *(name for name in earlier if name not in wanted)]
        differences = (
            _first_difference(earlier.get(name), wanted.get(name), f"{key}.{name}".lstrip(".")) for name in names
        )
        return next((difference for difference in differences if difference), None)
    return None if earlier == wanted else f"{key}: {_short(earlier)} there, {_short(wanted)} here"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def peak_memory_gb() -> float:
    """Largest resident memory of this process so far, in GB (10^9 bytes)."""
    import resource

    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
