"""Runs tasks at all dims, one after another: a failing task is reported and the rest go on, a killed run resumes."""

from __future__ import annotations

import logging
import math
import os
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gecko_core.errors import DataError, GeckoError
from gecko_eval.cache import EmbeddingCache
from gecko_eval.mteb.entries import Entry
from gecko_eval.mteb.items import ItemRecorder, has_rankings, save_rankings
from gecko_eval.mteb.kinds import kind_named
from gecko_eval.results import claimed, load_items, open_results, save_items, save_results

if TYPE_CHECKING:
    from gecko_eval.baselines import Bm25
    from gecko_eval.mteb.encoder import TextEmbedder

_RANKED = ("Retrieval", "Reranking")


def go_offline() -> None:
    """Makes every library refuse the network. To be called before they are imported."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1")


def run_tasks(
    model: TextEmbedder | Bm25,
    entries: Sequence[Entry],
    dims: Sequence[int],
    out: Path,
    *,
    cache_folder: Path | None = None,
    overwrite: bool = False,
    rankings: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Evaluates ``model`` on ``entries`` at ``dims`` and writes ``out/results.json`` after every task.

    Tasks already there (same weights, prompts, data and dims) are not run again unless ``overwrite``. With ``rankings``
    those of retrieval tasks are kept as TREC run files under ``out/rankings``.

    Returns:
        The content of results.json. ``tasks[name]`` holds ``scores[dim]`` (mteb's, main score under "main") or
        ``error``, one line.

    Raises:
        ConfigError: ``out`` holds the results of another model.
    """
    _quiet()
    with claimed(out):
        return _run(model, entries, dims, out, cache_folder, overwrite, rankings, say)


def _run(
    model: TextEmbedder | Bm25,
    entries: Sequence[Entry],
    dims: Sequence[int],
    out: Path,
    cache_folder: Path | None,
    overwrite: bool,
    rankings: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    results = {**open_results(model, dims, out), "folder": str(out)}
    cache = EmbeddingCache(cache_folder, model.key)
    model.prompts.update({entry.name: entry.prompt for entry in entries})
    started = time.monotonic()
    for number, entry in enumerate(entries, 1):
        done = results["tasks"].get(entry.name, {})
        head = f"[{number}/{len(entries)}] {entry.name}"
        scores, items = _kept(done, entry, model.prompted or str(entry.prompt), results)
        wants = rankings and entry.kind in _RANKED
        todo = [
            dim
            for dim in dims
            if overwrite or str(dim) not in scores or (wants and not has_rankings(out, scores[str(dim)]))
        ]
        if not todo:
            results["tasks"][entry.name] = found = {k: v for k, v in done.items() if k != "error"}
            save_results(out, results)
            say(f"{head}: done before, {_line(found)}")
            continue
        tick = time.monotonic()
        found, arrays = _run_task(model, entry, todo, out, cache, wants)
        found["seconds"] = round(time.monotonic() - tick, 1)
        if "error" in found:
            # What was scored before stays, beside the reason why it could not be scored again.
            found = {**done, "error": found["error"]} if "scores" in done else found
        elif "scores" in found:
            found["scores"] = dict(sorted({**scores, **found["scores"]}.items(), key=lambda one: -int(one[0])))
            if arrays:
                save_items(out, entry.name, {**items, **arrays})
        results["tasks"][entry.name] = found
        save_results(out, results)
        left = (time.monotonic() - started) / number * (len(entries) - number)
        eta = f", about {left / 60:.0f} min left" if left >= 30 else ""
        say(f"{head}: {_line(found).removeprefix(f'{entry.name}: ')} ({found.get('seconds', 0):.0f} s{eta})")
    cache.close()
    return results


def _kept(
    done: dict[str, Any], entry: Entry, prompt: str, results: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Scores and items of an earlier run that still hold: same prompt, same data, items where they belong."""
    if "scores" not in done or done.get("prompt") != prompt:
        return {}, {}
    try:
        if done.get("data") != entry.data():
            return {}, {}
        items = load_items(results, entry.name) if "items" in done else {}
    except (OSError, DataError):  # the run itself will say which file cannot be read
        return {}, {}
    return (done["scores"], items) if bool(items) == ("items" in done) else ({}, {})


def _run_task(
    model: TextEmbedder | Bm25, entry: Entry, dims: Sequence[int], out: Path, cache: EmbeddingCache, rankings: bool
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    arrays: dict[str, np.ndarray] = {}
    prompt = model.prompted or str(entry.prompt)
    found: dict[str, Any] = {"type": entry.kind, "origin": entry.origin, "prompt": prompt}
    if model.dims == (0,) and entry.kind not in {*_RANKED, "unreadable"}:
        return {**found, "skipped": f"{model.label} ranks documents and cannot do {entry.kind}"}, arrays
    try:
        task = _load(entry)
        found["data"] = entry.data()
        found["main_score"] = task.metadata.main_score
        found["scores"], kind, arrays = _score_dims(model, task, dims, out, cache, rankings)
        if arrays:
            found["items"] = kind
        task.unload_data()
    except GeckoError as e:
        found["error"] = str(e)
    except Exception as e:
        # Whatever one task's data or mteb throws must not take the other tasks with it.
        logging.getLogger(__name__).debug("task failed", exc_info=True)
        found["error"] = f"{entry.name}: {in_one_line(e)}"
    return found, arrays


def in_one_line(e: Exception, width: int = 200) -> str:
    """Kind and message of an error of some library, whose message may have many lines."""
    return f"{type(e).__name__}: {textwrap.shorten(str(e), width, placeholder='...')}"


# By name: they are httpx's, requests', urllib3's and huggingface_hub's.
_UNREACHABLE = {"ConnectError", "ConnectTimeout", "ConnectionError", "MaxRetryError", "OfflineModeIsEnabled"}


def no_network(e: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that the network is not there."""
    seen: list[BaseException] = []
    while e is not None and e not in seen:
        if type(e).__name__ in _UNREACHABLE:
            return True
        seen.append(e)
        e = e.__cause__ or e.__context__
    return False


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
    model: Any, task: Any, dims: Sequence[int], out: Path, cache: EmbeddingCache, rankings: bool
) -> tuple[dict[str, Any], str, dict[str, np.ndarray]]:
    import mteb
    from mteb._set_seed import _set_seed

    from gecko_eval.mteb.encoder import make_encoders

    task_kind = kind_named(task.metadata.type)
    if task_kind is not None:
        task = task_kind.prepare(task)
    encoders = {0: model} if model.dims == (0,) else make_encoders(model, dims, cache)
    scores: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    kind = "mean"
    for dim, encoder in encoders.items():
        # A task draws its samples from a generator that runs on: every dim must see a fresh one, as mteb alone would.
        task.rng_state, task.np_rng = _set_seed(task.seed)
        with tempfile.TemporaryDirectory() as folder:
            recorder = ItemRecorder(task, Path(folder), rankings)
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
        main = float(result.get_score())
        if not math.isfinite(main):
            raise DataError(
                f"{task.metadata.name}: {task.metadata.main_score} at {dim or 'no'} dims is not a number; are all "
                "texts or all gold scores alike?"
            )
        scores[str(dim)] = {"main": main, "splits": _plain(result.scores)}
        if recorder.rankings:
            files = save_rankings(out, task.metadata.name, dim, recorder.rankings, model.label)
            scores[str(dim)]["rankings"] = files
    return scores, kind, arrays


def _plain(scores: Any) -> Any:
    """mteb's scores without the bulk (predictions, per-experiment lists)."""
    keep = {"hf_subset", "main_score"}
    return {
        split: [{k: v for k, v in row.items() if k in keep or isinstance(v, (int, float))} for row in rows]
        for split, rows in scores.items()
    }


def _line(found: dict[str, Any]) -> str:
    if "error" in found or "skipped" in found:
        return str(found.get("error") or f"skipped, {found['skipped']}")
    return f"{found['main_score']} " + ", ".join(
        f"{100 * s['main']:.2f}" + (f" @{dim}" if dim != "0" else "") for dim, s in found["scores"].items()
    )


def _quiet() -> None:
    # mteb warns of every superseded task and every missing batch size; the run says what matters itself.
    logging.getLogger("mteb").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(mteb|sklearn|bm25s)(\..*)?")
    import datasets

    datasets.disable_progress_bars()
