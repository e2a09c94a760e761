"""Results folders: claimed by one run at a time, written whole, checked when read."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import file_hash, json_checksum, locked, read_json, remove_leftovers, whole_file, write_json

RESULTS = "results.json"
_LARGEST_DIM = 10**7
_LARGEST_SCORE = 10**6


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Make the folder and keep other runs out of it meanwhile.

    Raises:
        ConfigError: another run is writing there.
        DataError: it cannot be a folder, or cannot be written to.
    """
    make_folder(out)
    busy = ConfigError(f"{out}: another gecko-eval run is writing there; wait for it, or choose another --out")
    with locked(out / ".lock", busy):
        remove_leftovers(out)
        yield


def make_folder(path: Path) -> None:
    """Create the folder where it is missing.

    Raises:
        DataError: it cannot be a folder.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be a folder for results ({error.strerror}); choose another --out") from error


def open_results(model: Any, dims: Sequence[int], out: Path) -> dict[str, Any]:
    """What ``out`` holds already, or a new set of results for ``model``.

    Raises:
        ConfigError: ``out`` holds the results of another model.
        DataError: what it holds is damaged.
    """
    if (out / RESULTS).exists():
        results = load_results(out)
        if results["model"]["key"] != model.key:
            label = results["model"]["label"]
            whose = f"{label}, not of {model.label}"
            if label == model.label:
                whose = f"{label} with other weights, prompts or precision"
            raise ConfigError(f"{out}: holds results of {whose}; choose another --out")
    else:
        about = {"label": model.label, "key": model.key, "precision": model.precision, "record": model.record}
        results = {"model": about, "tasks": {}}
    results["dims"] = sorted({*results.get("dims", []), *dims}, reverse=True)
    results["made"] = _versions()
    return results


def load_results(path: str | Path) -> dict[str, Any]:
    """The content of a results folder (or its results.json).

    Raises:
        DataError: nothing there, not results of ``gecko-eval run``, or damaged.
    """
    path = Path(path)
    folder = path.parent if path.is_file() else path
    path = path if path.is_file() else path / RESULTS
    if not os.path.exists(path):  # unlike Path.exists, it raises nothing where the folder cannot be entered
        raise DataError(f"{path}: no results there; make them with `gecko-eval run --out {folder}`")
    results: dict[str, Any] = read_json(path, cure="if it is damaged, delete it and run the tasks again")
    if not {"model", "tasks"} <= results.keys():
        raise DataError(f"{path}: not a results file of gecko-eval")
    checksum = results.pop("checksum", None)  # earlier versions had none
    fault = _fault(results) if checksum in (None, json_checksum(results)) else "a place that its checksum covers"
    if fault:
        raise DataError(f"{path}: damaged at {fault}; delete it and run the tasks again")
    results["folder"] = str(path.parent)
    return results


def save_results(out: Path, results: Mapping[str, Any]) -> None:
    """Write results.json, whole or not at all."""
    content = {k: v for k, v in results.items() if k not in ("folder", "checksum")}
    write_json(out / RESULTS, content, indent=1, checksum="checksum")


def save_items(out: Path, task: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Keep the arrays behind a task's scores, in the form that ``load_items`` gives.

    Returns:
        The file's checksum, for ``tasks[task]["items_sha256"]`` of the results.
    """
    make_folder(out / "items")
    with whole_file(_items_path(out, task)) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file_hash(_items_path(out, task))


def load_items(results: Mapping[str, Any], task: str) -> dict[str, np.ndarray]:
    """The arrays behind a task's scores, by "dim/split/subset" and "gold/split/subset"; empty where none were kept.

    Raises:
        DataError: the file is damaged, or that of another run or task.
    """
    path = _items_path(Path(results["folder"]), task)
    wanted = results.get("tasks", {}).get(task, {}).get("items_sha256")  # earlier versions had none
    if not path.is_file():
        if wanted:
            raise DataError(f"{path}: the items of {task} are missing; run the task again with --overwrite")
        return {}
    try:
        if wanted and file_hash(path) != wanted:
            raise ValueError("not what was written")
        with np.load(path, allow_pickle=False) as arrays:
            items = dict(arrays)
        sound = all(a.ndim == 1 and np.isfinite(a.astype(np.float64)).all() for a in items.values())
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        sound = False
    if not sound:
        raise DataError(f"{path}: the items of {task} are damaged; run the task again with --overwrite")
    return items


def name_apart(all_results: Sequence[dict[str, Any]]) -> None:
    """Add the results folder's name to the label of models that share one (two checkpoints, say)."""
    labels = [results["model"]["label"] for results in all_results]
    folders = [Path(results["folder"]).resolve() for results in all_results]
    short = [folder.name for folder in folders]
    for results, label, folder in zip(all_results, labels, folders, strict=True):
        if labels.count(label) > 1:
            name = folder.name if short.count(folder.name) == 1 else f"{folder.parent.name}/{folder.name}"
            results["model"]["label"] = f"{label} ({name})"


def safe_name(name: str) -> str:
    """A file name for any text: the text itself where that is one, else what can be kept of it and a hash."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:100]
    if plain == name and plain.strip("."):
        return name
    return f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _items_path(out: Path, task: str) -> Path:
    return out / "items" / f"{safe_name(task)}.npz"


def _fault(results: dict[str, Any]) -> str | None:
    """Where the content is not what ``run`` writes; None where it is."""
    model, tasks = results["model"], results["tasks"]
    if not isinstance(model, dict) or not all(isinstance(model.get(key), str) for key in ("label", "key")):
        return "model"
    if not isinstance(model.setdefault("record", {}), dict):
        return "model.record"
    if not isinstance(results.setdefault("made", {}), dict):
        return "made"
    dims = results.setdefault("dims", [])
    if not isinstance(dims, list) or not all(type(dim) is int and 0 <= dim <= _LARGEST_DIM for dim in dims):
        return "dims"
    if not isinstance(tasks, dict):
        return "tasks"
    for name, task in tasks.items():
        if not isinstance(task, dict) or not isinstance(task.get("error", ""), str):
            return f"tasks, {name}"
        if "scores" in task and not _sound_scores(task):
            return f"tasks, {name}, scores"
    return None


def _sound_scores(task: dict[str, Any]) -> bool:
    scores = task["scores"]
    return (
        isinstance(scores, dict)
        and bool(scores)
        and all(isinstance(task.get(key), str) for key in ("type", "main_score"))
        and task.get("items", "mean") in ("mean", "spearman", "ap")
        and all(_sound_dim(dim) and _sound_score(score) for dim, score in scores.items())
    )


def _sound_dim(dim: str) -> bool:
    return dim.isascii() and dim.isdigit() and len(dim) <= len(str(_LARGEST_DIM)) and int(dim) <= _LARGEST_DIM


def _sound_score(score: Any) -> bool:
    if not isinstance(score, dict):
        return False
    splits, main = score.setdefault("splits", {}), score.get("main")
    if not isinstance(splits, dict) or not all(isinstance(split, list) for split in splits.values()):
        return False
    # Compared as it is: JSON's whole numbers may be larger than any float, and NaN is not below anything.
    return isinstance(main, (int, float)) and not isinstance(main, bool) and abs(main) <= _LARGEST_SCORE


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    packages = {p: version(p) for p in ("mteb", "torch", "gecko-eval", "gecko-core")}
    return {"date": now, "python": platform.python_version(), **packages}
