"""The output folder of a run: whose it is, what is finished in it, and that nobody else writes there.

A step is finished while its result is there, what it read is what it was, and what it made is still there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import (
    is_leftover,
    locked,
    missing_folders,
    read_json,
    read_yaml,
    remove_empty,
    remove_leftovers,
    write_json,
    write_text,
)
from gecko_train.config import KnownItemsConfig, Recipe, dump_recipe
from gecko_train.run.inputs import Inputs, content_hash, made_hashes

_RECIPE = "recipe.yaml"
# Of fine-tuning, what decides which items the first step sets apart.
_APART = ("enabled", "interpolate", "known_items")
_APART_BY = ("evaluate", "patience", "end_with")


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
        self._inputs: dict[str, Inputs] = {}
        self._outputs: dict[str, list[str]] = {}
        self._hashes: dict[Path, str | None] = {}
        self._checked: set[str] = set()

    def bind(self, name: str, inputs: Inputs, outputs: Sequence[str]) -> None:
        """Say what a step reads and makes; without it, a result alone makes it finished.

        Args:
            name: the step's name.
            inputs: files and folders that it reads.
            outputs: files and model folders that it makes, below this folder.
        """
        self._inputs[name], self._outputs[name] = dict(inputs), list(outputs)

    @classmethod
    def look(cls, path: str | Path, recipe: Recipe) -> RunFolder:
        """The folder as ``claim`` finds it, to read from: nothing is made or locked.

        Args:
            path: the folder.
            recipe: the recipe that would run there.

        Raises:
            ConfigError: it holds another run or something else.
        """
        path = Path(path)
        recipe = _as_begun(path, recipe)
        _check(path, recipe)
        return cls(path, recipe, writes=False)

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
        # Every rank refuses by itself: without torchrun's agent nobody ends the others, which would wait for the first.
        _check(path, recipe)
        if int(os.environ.get("RANK", "0")) > 0:
            yield cls(path, recipe, writes=False)
            return
        new = missing_folders(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{path}: cannot write there ({error.strerror}); choose another folder with --out"
            ) from None
        busy = ConfigError(f"{path}: another gecko-train is running there; wait for it, or use --out")
        try:
            with locked(path / ".lock", busy):
                remove_leftovers(path)
                begun = (path / _RECIPE).exists()
                if not begun or _corrected(path, recipe):
                    write_text(path / _RECIPE, dump_recipe(recipe))
                try:
                    yield cls(path, recipe)
                except BaseException:
                    # What ends before it has made anything is no run: the corrected command may use the folder.
                    if not begun and {entry.name for entry in path.iterdir()} <= {".lock", _RECIPE}:
                        (path / _RECIPE).unlink(missing_ok=True)
                    raise
        finally:
            remove_empty(new)

    def stage(self, name: str, work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The result of a step: read back if it is finished, else computed and kept.

        Args:
            name: the step's name.
            work: computes the result.
        """
        finished = self.finished(name)
        if finished is not None:
            return finished
        read = self.input_hashes(name)
        result = dict(work())
        if not self.writes:
            return result
        made = made_hashes(self.path, self._outputs.get(name, ()))
        kept = {**result, **({"read": read} if read else {}), **({"made": made} if made else {})}
        write_json(self._file(name), kept, checksum="sha256")
        self._checked.add(name)
        return self.finished(name) or result

    def input_hashes(self, name: str) -> dict[str, str]:
        """Hashes of what a step reads, by their names in the recipe.

        Raises:
            DataError: one cannot be read.
        """
        inputs = self._inputs.get(name, {})
        for path in inputs.values():
            if path not in self._hashes:  # several steps read the same start model
                self._hashes[path] = content_hash(path)
        hashes = {label: self._hashes[path] for label, path in inputs.items()}
        return {label: digest for label, digest in hashes.items() if digest is not None}

    def is_kept(self, name: str) -> bool:
        """Whether the step has a result, finished or not."""
        return self._file(name).exists()

    def forget(self, name: str) -> None:
        """Remove the result of a step, which must be done again."""
        self._file(name).unlink(missing_ok=True)

    def finished(self, name: str) -> dict[str, Any] | None:
        """The result of a finished step, or None where it has none or what it made is gone.

        Raises:
            ConfigError: what it read has changed, or is gone.
            DataError: its file is damaged, or what it made has been changed.
        """
        path = self._file(name)
        if not path.exists():
            return None
        result: dict[str, Any] = read_json(path, cure="remove the file to run this step again", checksum="sha256")
        read, made = result.pop("read", {}), result.pop("made", {})
        if not all((self.path / place).exists() for place in (*self._outputs.get(name, ()), *made)):
            return None
        if name not in self._checked:
            self._check_inputs(name, read)
            self._check_outputs(made)
            self._checked.add(name)
        return result

    def _check_inputs(self, name: str, read: Mapping[str, str]) -> None:
        now = self.input_hashes(name)
        for label, digest in read.items():
            path = self._inputs.get(name, {}).get(label)
            if path is not None and now.get(label) != digest:
                what = "has changed since this run began" if label in now else "is gone since this run began"
                raise ConfigError(
                    f"{self.path}: {label} {what} ({path}); restore it, or choose another folder with --out"
                )

    def _check_outputs(self, made: Mapping[str, str]) -> None:
        now = made_hashes(self.path, made)
        for place, digest in made.items():
            if now.get(place) != digest:
                raise DataError(
                    f"{self.path / place}: not what this run made; restore it, or remove it to have it made again"
                )

    def _file(self, name: str) -> Path:
        return self.path / "stages" / f"{name}.json"


def _as_begun(path: Path, recipe: Recipe) -> Recipe:
    """The recipe; in a folder of an earlier version the fine-tuned model is chosen as it was then.

    Before ``finetune.interpolate`` that was the trained model, before ``known_items.words`` it was chosen by the other
    kinds of items.
    """
    if recipe.finetune.interpolate != "auto" or not (path / _RECIPE).is_file():
        return recipe
    earlier = read_yaml(path / _RECIPE, "recipe")
    if _lacks_words(earlier) and recipe.finetune.known_items.words == KnownItemsConfig().words:
        known = recipe.finetune.known_items.model_copy(update={"words": 0})
        return recipe.model_copy(update={"finetune": recipe.finetune.model_copy(update={"known_items": known})})
    if not _lacks_interpolation(earlier):
        return recipe
    fields = type(recipe.finetune).model_fields
    as_then = {name: fields[name].get_default(call_default_factory=True) for name in ("interpolation", "known_items")}
    finetune = recipe.finetune.model_copy(update={**as_then, "interpolate": None})
    return recipe.model_copy(update={"finetune": finetune})


def _lacks_interpolation(earlier: dict[str, Any]) -> bool:
    return isinstance(earlier.get("finetune"), dict) and "interpolate" not in earlier["finetune"]


def _lacks_words(earlier: dict[str, Any]) -> bool:
    known = earlier["finetune"].get("known_items") if isinstance(earlier.get("finetune"), dict) else None
    return isinstance(known, dict) and "words" not in known


def _check(path: Path, recipe: Recipe) -> None:
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path}: is a file; choose a folder with --out")
    if not path.is_dir() or all(entry.name == ".lock" or is_leftover(entry.name) for entry in path.iterdir()):
        return  # a process that was killed while it wrote the recipe leaves a lock and a temporary file
    if not (path / _RECIPE).exists():
        if (path / "stages").is_dir():
            raise ConfigError(
                f"{path}: the run's {_RECIPE} is gone; put back the one that it was begun with, or choose another "
                "folder with --out"
            )
        raise ConfigError(f"{path}: holds files that are not a run of gecko-train; choose another folder with --out")
    difference = _first_difference(_earlier(path), recipe.model_dump(mode="json"))
    if difference is not None and not _corrected(path, recipe):
        raise ConfigError(
            f"{path}: holds a run of another recipe ({difference}); give the same settings to go on with "
            "it, or another folder with --out"
        )


def _earlier(path: Path) -> dict[str, Any]:
    """The recipe that the folder was begun with, as this version writes it."""
    earlier = read_yaml(path / _RECIPE, "recipe")
    if _lacks_interpolation(earlier):
        earlier["finetune"]["interpolate"] = None
    if _lacks_words(earlier):
        earlier["finetune"]["known_items"]["words"] = 0
    with suppress(ValidationError):  # of a later version: the comparison names the first key that differs
        earlier = Recipe.model_validate(Recipe.upgrade(earlier)).model_dump(mode="json")
    return earlier


def _corrected(path: Path, recipe: Recipe) -> bool:
    """Whether the recipe differs in fine-tuning alone, which has made nothing yet, and in nothing that is set apart."""
    earlier, wanted = _earlier(path), recipe.model_dump(mode="json")
    begun = any((path / made).exists() for made in ("stages/finetune.json", "finetune/checkpoints"))
    if begun or not isinstance(earlier.get("finetune"), dict):
        return False
    before, now = earlier["finetune"], wanted["finetune"]
    apart = [{key: section.get(key) for key in _APART} for section in (before, now)]
    by = [{key: (section.get("trainer") or {}).get(key) for key in _APART_BY} for section in (before, now)]
    others = [{**whole, "finetune": None} for whole in (earlier, wanted)]
    return before != now and all(_first_difference(*pair) is None for pair in (apart, by, others))


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
