"""Runs tasks at all dims, one after another: a failing task is reported and the rest go on, a killed run resumes."""

from __future__ import annotations

import datetime
import json
import logging
import os
import platform
import re
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gecko_core.errors import ConfigError, DataError, GeckoError

from .cache import EmbeddingCache
from .columns import with_list_columns
from .items import ItemRecorder
from .local import LocalSet, discover
from .tasks import TaskPrompt, expand_names, task_prompt

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

    from .baselines import Bm25
    from .encoder import TextEmbedder

RESULTS = "results.json"


@dataclass(frozen=True)
class Entry:
    """One task to run: its name, where its data comes from and how to load it.

    ``data`` identifies the content: a folder's changes with its files, mteb's is the revision it downloads.
    """

    name: str
    kind: str
    origin: str
    prompt: TaskPrompt
    load: Callable[[], AbsTask]
    data: Callable[[], str]


def entries_for(
    names: Iterable[str], local_root: Path | None, extra: Sequence[LocalSet] = (), *, drop_unjudged: bool = False
) -> list[Entry]:
    """What ``--tasks`` means: folders under ``local_root`` first (by folder name or mteb's name), else mteb's tasks.

    ``local`` stands for every folder under ``local_root``.

    Raises:
        ConfigError: a name that is neither, or two of ``extra`` with one name.
    """
    folders = {s.name: s for s in discover(local_root, drop_unjudged)} if local_root else {}
    by_mteb = {s.mteb_name: s for s in folders.values() if s.mteb_name}
    entries: dict[str, Entry] = {s.name: _local_entry(s) for s in extra}
    if len(entries) < len(extra):
        raise ConfigError(f"two sets of one name among {', '.join(s.name for s in extra)}; rename a folder")
    rest = []
    for name in names:
        if name == "local":
            if not folders:
                raise ConfigError("the task 'local' needs a data folder: set GECKO_DATA_DIR or give --local")
            entries.update((s.mteb_name or s.name, _local_entry(s)) for s in folders.values())
        elif name in folders or name in by_mteb:
            found = folders.get(name) or by_mteb[name]
            entries[found.mteb_name or found.name] = _local_entry(found)
        else:
            rest.append(name)
    for task in expand_names(rest) if rest else []:
        name = task.metadata.name
        if name in by_mteb:
            entries.setdefault(name, _local_entry(by_mteb[name]))
        else:
            entries.setdefault(name, _mteb_entry(task))
    return list(entries.values())


def _local_entry(found: LocalSet) -> Entry:
    name = found.mteb_name or found.name
    return Entry(name, found.kind, f"folder {found.name}", found.prompt, found.load, found.fingerprint)


def _mteb_entry(task: Any) -> Entry:
    def load() -> AbsTask:
        if "test" in task.eval_splits and len(task.eval_splits) > 1:
            task.filter_eval_splits(["test"])
        task.load_data()
        if hasattr(task, "convert_v1_dataset_format_to_v2"):
            task.convert_v1_dataset_format_to_v2(num_proc=None)
        return task

    name, kind = task.metadata.name, task.metadata.type
    return Entry(name, kind, "mteb", task_prompt(name, kind), load, lambda: str(task.metadata.revision))


def go_offline() -> None:
    """Makes every library refuse the network. To be called before they are imported."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1")


def run(
    model: TextEmbedder | Bm25,
    entries: Sequence[Entry],
    dims: Sequence[int],
    out: Path,
    *,
    cache_folder: Path | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Evaluates ``model`` on ``entries`` at ``dims`` and writes ``out/results.json`` after every task.

    Tasks already there (same weights, prompts, data and dims) are not run again unless ``overwrite``.

    Returns:
        The content of results.json. ``tasks[name]`` holds ``scores[dim]`` (mteb's, main score under "main") or
        ``error``, one line.

    Raises:
        ConfigError: ``out`` holds the results of another model.
    """
    _quiet()
    make_folder(out)
    results = _open_results(model, dims, out)
    cache = EmbeddingCache(cache_folder, model.key)
    model.prompts.update({entry.name: entry.prompt for entry in entries})
    started = time.monotonic()
    for number, entry in enumerate(entries, 1):
        done = results["tasks"].get(entry.name, {})
        head = f"[{number}/{len(entries)}] {entry.name}"
        if not overwrite and _still_holds(done, entry, dims):
            say(f"{head}: done before, {_line(done)}")
            continue
        tick = time.monotonic()
        found = _run_task(model, entry, dims, out, cache)
        found["seconds"] = round(time.monotonic() - tick, 1)
        results["tasks"][entry.name] = found
        _write(out / RESULTS, results)
        left = (time.monotonic() - started) / number * (len(entries) - number)
        eta = f", about {left / 60:.0f} min left" if left >= 30 else ""
        say(f"{head}: {found.get('error') or _line(found)} ({found['seconds']:.0f} s{eta})")
    cache.close()
    return results


def make_folder(path: Path) -> None:
    """Creates the folder; DataError where it cannot be one."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise DataError(f"{path}: cannot be a folder for results ({e.strerror}); choose another --out") from e


def _still_holds(done: dict[str, Any], entry: Entry, dims: Sequence[int]) -> bool:
    if not set(map(str, dims)) <= done.get("scores", {}).keys() or done.get("prompt") != str(entry.prompt):
        return False
    try:
        return done.get("data") == entry.data()
    except OSError:  # the run itself will say which file cannot be read
        return False


def _run_task(
    model: TextEmbedder | Bm25, entry: Entry, dims: Sequence[int], out: Path, cache: EmbeddingCache
) -> dict[str, Any]:
    found: dict[str, Any] = {"type": entry.kind, "origin": entry.origin, "prompt": str(entry.prompt)}
    try:
        task = _load(entry)
        if model.dims == (0,) and entry.kind not in {"Retrieval", "Reranking"}:
            raise DataError(f"{entry.name}: {model.label} ranks documents and cannot do {entry.kind}")
        found["data"] = entry.data()
        found["main_score"] = task.metadata.main_score
        found["scores"], kind, arrays = _score_dims(model, task, dims, out, cache)
        if arrays:
            (out / "items").mkdir(exist_ok=True)
            _write_npz(out / "items" / f"{_safe(entry.name)}.npz", arrays)
            found["items"] = kind
        task.unload_data()
    except GeckoError as e:
        found["error"] = str(e)
    except Exception as e:
        # Whatever one task's data or mteb throws must not take the other tasks with it.
        logging.getLogger(__name__).debug("task failed", exc_info=True)
        found["error"] = f"{entry.name}: {in_one_line(e)}"
    return found


def in_one_line(e: Exception, width: int = 200) -> str:
    """Kind and message of an error of some library, whose message may have many lines."""
    return f"{type(e).__name__}: {textwrap.shorten(str(e), width, placeholder='...')}"


def _load(entry: Entry) -> Any:
    try:
        return entry.load()
    except GeckoError:
        raise
    except Exception as e:
        if entry.origin != "mteb":
            raise
        raise DataError(
            f"{entry.name}: its data cannot be had here ({in_one_line(e)}); run `gecko-eval prefetch {entry.name}` "
            "where there is a network, or set GECKO_DATA_DIR to a folder that holds it"
        ) from e


def _score_dims(
    model: Any, task: Any, dims: Sequence[int], out: Path, cache: EmbeddingCache
) -> tuple[dict[str, Any], str, dict[str, np.ndarray]]:
    import mteb
    from mteb._set_seed import _set_seed

    from .encoder import make_encoders

    if task.metadata.type == "Classification":
        task.dataset = with_list_columns(task.dataset)
    encoders = {0: model} if model.dims == (0,) else make_encoders(model, dims, cache)
    scores: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    kind = "mean"
    for dim, encoder in encoders.items():
        # A task draws its samples from a generator that runs on: every dim must see a fresh one, as mteb alone would.
        task.rng_state, task.np_rng = _set_seed(task.seed)
        with tempfile.TemporaryDirectory() as folder:
            recorder = ItemRecorder(task, Path(folder))
            result = mteb.evaluate(
                encoder,
                task,
                co2_tracker=False,
                cache=mteb.ResultCache(out / "mteb"),
                overwrite_strategy="always",
                encode_kwargs={"batch_size": 512, "show_progress_bar": False},
                prediction_folder=recorder.prediction_folder,
                show_progress_bar=False,
            ).task_results[0]
            kind, items, gold = recorder.items(result.scores)
        arrays.update({f"{dim}/{where}": values for where, values in items.items()})
        arrays.update({f"gold/{where}": values for where, values in gold.items()})
        scores[str(dim)] = {"main": float(result.get_score()), "splits": _plain(result.scores)}
    return scores, kind, arrays


def _plain(scores: Any) -> Any:
    """mteb's scores without the bulk (predictions, per-experiment lists)."""
    keep = {"hf_subset", "main_score"}
    return {
        split: [{k: v for k, v in row.items() if k in keep or isinstance(v, (int, float))} for row in rows]
        for split, rows in scores.items()
    }


def _open_results(model: Any, dims: Sequence[int], out: Path) -> dict[str, Any]:
    path = out / RESULTS
    if path.is_file():
        results = load_results(out)
        if results["model"]["key"] != model.key:
            raise ConfigError(
                f"{out}: holds results of {results['model']['label']} with other weights, prompts or precision; choose "
                "another --out"
            )
    else:
        about = {"label": model.label, "key": model.key, "precision": model.precision, "record": model.record}
        results = {"model": about, "tasks": {}}
    results["dims"] = sorted({*results.get("dims", []), *dims}, reverse=True)
    results["made"] = _versions()
    return results


def load_results(path: str | Path) -> dict[str, Any]:
    """The content of a results folder (or its results.json).

    Raises:
        DataError: nothing there, or not results of ``gecko-eval run``.
    """
    path = Path(path)
    path = path / RESULTS if path.is_dir() else path
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise DataError(f"{path}: no results there; make them with `gecko-eval run --out {path.parent}`") from e
    except ValueError as e:
        raise DataError(f"{path}: not JSON ({e})") from e
    if not isinstance(results, dict) or not {"model", "tasks"} <= results.keys():
        raise DataError(f"{path}: not a results file of gecko-eval")
    results["folder"] = str(path.parent)
    return results


def name_apart(all_results: Sequence[dict[str, Any]]) -> None:
    """Gives models of one label (two checkpoints, say) their results folder's name as well, so that they tell apart."""
    labels = [results["model"]["label"] for results in all_results]
    for results in all_results:
        label = results["model"]["label"]
        if labels.count(label) > 1:
            results["model"]["label"] = f"{label} ({Path(results['folder']).name})"


def load_items(results: dict[str, Any], task: str) -> dict[str, np.ndarray]:
    """The arrays behind a task's scores, by "dim/split/subset" and "gold/split/subset"; empty where none were kept."""
    path = Path(results["folder"]) / "items" / f"{_safe(task)}.npz"
    if not path.is_file():
        return {}
    with np.load(path) as arrays:
        return dict(arrays)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    packages = {p: version(p) for p in ("mteb", "torch", "gecko-eval", "gecko-core")}
    return {"date": now, "python": platform.python_version(), **packages}


def _line(found: dict[str, Any]) -> str:
    return f"{found['main_score']} " + ", ".join(
        f"{100 * s['main']:.2f}" + (f" @{dim}" if dim != "0" else "") for dim, s in found["scores"].items()
    )


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


def _write(path: Path, results: dict[str, Any]) -> None:
    content = {k: v for k, v in results.items() if k != "folder"}
    _replace(path, lambda f: f.write(json.dumps(content, indent=1, ensure_ascii=False).encode()))


def _write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    _replace(path, lambda f: np.savez_compressed(f, **arrays))  # type: ignore[arg-type]


def _replace(path: Path, write: Callable[[Any], Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as f:
        write(f)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)


def _quiet() -> None:
    # mteb warns of every superseded task and every missing batch size; the run says what matters itself.
    logging.getLogger("mteb").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"mteb(\..*)?")
    import datasets

    datasets.disable_progress_bars()
