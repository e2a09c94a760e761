"""Runs tasks at all dims, one after another; a failing task does not stop the others, and a killed run resumes."""

from __future__ import annotations

import logging
import math
import os
import shutil
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gecko_core.errors import DataError, GeckoError
from gecko_core.io import format_seconds, whole_path
from gecko_eval.cache import EmbeddingCache
from gecko_eval.mteb.entries import Entry
from gecko_eval.mteb.fields import FieldsEmbedder
from gecko_eval.mteb.items import ItemRecorder, KeptItems, check_rankable, has_rankings, save_rankings
from gecko_eval.mteb.kinds import kind_named
from gecko_eval.results import claimed, load_items, open_results, save_items, save_results

if TYPE_CHECKING:
    from gecko_eval.baselines import Bm25
    from gecko_eval.mteb.encoder import TextEmbedder

Arrays = dict[str, np.ndarray]

_RANKED = ("Retrieval", "Reranking")
_SHORTEST_ETA = 30  # seconds


def go_offline() -> None:
    """Make every library refuse the network; to be called before they are imported."""
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
    complain: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Evaluate ``model`` on ``entries`` at ``dims`` and write ``out/results.json`` after every task.

    Args:
        model: what is evaluated.
        entries: the tasks, from ``entries_for``.
        dims: Matryoshka dims; (0,) for a model without dims.
        out: the results folder. Tasks that it holds already (same weights, prompts, data and dims) are not run again.
        cache_folder: where embeddings are kept after the run; None keeps them nowhere.
        overwrite: whether tasks that have results are run again.
        rankings: whether the rankings of retrieval tasks are kept as TREC run files under ``out/rankings``.
        say: takes one line after every task.
        complain: takes the line of a task that failed; ``say`` by default.

    Returns:
        The content of results.json. ``tasks[name]`` holds ``scores[dim]`` (mteb's, main score under "main") or
        ``error``, one line.

    Raises:
        ConfigError: ``out`` holds the results of another model.
    """
    _quiet()
    with claimed(out), closing(EmbeddingCache(cache_folder, _cache_key(model))) as cache:
        results = {**open_results(model, dims, out), "folder": str(out)}
        model.prompts.update({entry.name: entry.prompt for entry in entries})
        run = _Run(model, dims, out, cache, overwrite, rankings, results)
        started = time.monotonic()
        for number, entry in enumerate(entries, 1):
            before = time.monotonic()
            outcome, is_new = run.task(entry)
            results["tasks"][entry.name] = outcome
            save_results(out, results)
            line = describe(outcome).removeprefix(f"{entry.name}: ")
            if is_new:
                now = time.monotonic()
                left = (now - started) / number * (len(entries) - number)
                eta = f", about {format_seconds(left)} left" if left >= _SHORTEST_ETA else ""
                line = f"{line} ({format_seconds(now - before)}{eta})"
            else:
                line = f"done before, {line}"
            tell = complain if complain is not None and "error" in outcome else say
            tell(f"[{number}/{len(entries)}] {entry.name}: {line}")
            for note in outcome.get("notes", ()):
                say(f"note: {entry.name}: {note}")
    return results


@dataclass(frozen=True)
class _Run:
    """What all tasks of a run share."""

    model: TextEmbedder | Bm25
    dims: Sequence[int]
    out: Path
    cache: EmbeddingCache
    overwrite: bool
    rankings: bool
    results: dict[str, Any]

    def task(self, entry: Entry) -> tuple[dict[str, Any], bool]:
        """The task's part of results.json, and whether anything had to be run for it."""
        done = self.results["tasks"].get(entry.name, {})
        scores, items = self._still_valid(done, entry)
        keeps_rankings = self.rankings and entry.kind in _RANKED

        def is_missing(dim: int) -> bool:
            if self.overwrite or str(dim) not in scores:
                return True
            return keeps_rankings and not has_rankings(self.out, scores[str(dim)])

        todo = [dim for dim in self.dims if is_missing(dim)]
        if not todo:
            return {key: value for key, value in done.items() if key != "error"}, False
        started = time.monotonic()
        outcome, arrays = self._evaluate(entry, todo, keeps_rankings)
        outcome["seconds"] = round(time.monotonic() - started, 1)
        if "error" in outcome and "scores" in done:
            # What was scored before stays, beside the reason why it could not be scored again.
            return {**done, "error": outcome["error"]}, True
        if "scores" in outcome:
            outcome["scores"] = dict(sorted({**scores, **outcome["scores"]}.items(), key=lambda item: -int(item[0])))
            if arrays:
                outcome["items_sha256"] = save_items(self.out, entry.name, {**items, **arrays})
        return outcome, True

    def _prompt(self, entry: Entry) -> str:
        return self.model.prompted or str(entry.prompt)

    def _still_valid(self, done: dict[str, Any], entry: Entry) -> tuple[dict[str, Any], Arrays]:
        """Scores and items of an earlier run that still hold: same prompt, same data, items where they belong."""
        if "scores" not in done or done.get("prompt") != self._prompt(entry):
            return {}, {}
        try:
            if done.get("data") != entry.data():
                return {}, {}
            items = load_items(self.results, entry.name) if "items" in done else {}
        except (OSError, DataError):  # the run itself will say which file cannot be read
            return {}, {}
        return (done["scores"], items) if bool(items) == ("items" in done) else ({}, {})

    def _evaluate(self, entry: Entry, dims: Sequence[int], keeps_rankings: bool) -> tuple[dict[str, Any], Arrays]:
        arrays: Arrays = {}
        outcome: dict[str, Any] = {"type": entry.kind, "origin": entry.origin, "prompt": self._prompt(entry)}
        if self.model.dims == (0,) and entry.kind not in {*_RANKED, "unreadable"}:
            outcome["skipped"] = f"{self.model.label} ranks documents and cannot do {entry.kind}"
            return outcome, arrays
        if isinstance(self.model, FieldsEmbedder) and entry.kind not in ("Retrieval", "unreadable"):
            outcome["skipped"] = f"fields are those of a corpus' documents, and {entry.kind} has none"
            return outcome, arrays
        try:
            task = _load(entry)
            if keeps_rankings:
                check_rankable(task)
            if notes := getattr(task, "notes", ()):
                outcome["notes"] = list(notes)
            outcome["data"] = entry.data()
            outcome["main_score"] = task.metadata.main_score
            outcome["scores"], statistic, arrays = self._score_dims(task, dims, keeps_rankings)
            if arrays:
                outcome["items"] = statistic
            if told := self._told():
                outcome["notes"] = [*outcome.get("notes", ()), *told]
            task.unload_data()
        except GeckoError as error:
            outcome["error"] = str(error)
        except Exception as error:
            # An error in one task's data or in mteb must not end the run.
            logging.getLogger(__name__).debug("task failed", exc_info=True)
            outcome["error"] = f"{entry.name}: {in_one_line(error)}"
        return outcome, arrays

    def _told(self) -> list[str]:
        """What the model has to say of the texts that it was given."""
        notes = getattr(self.model, "take_notes", None)
        return notes() if notes is not None else []

    def _score_dims(self, task: Any, dims: Sequence[int], keeps_rankings: bool) -> tuple[dict[str, Any], str, Arrays]:
        """Scores by dim, the statistic that makes them from the items, and the items."""
        from gecko_eval.mteb.encoder import make_encoders

        kind = kind_named(task.metadata.type)
        if kind is not None:
            task = kind.prepare(task)
        encoders: dict[int, Any] = {0: self.model}
        if self.model.dims != (0,):
            encoders = dict(make_encoders(self.model, dims, self.cache))  # type: ignore[arg-type]
        scores: dict[str, Any] = {}
        arrays: Arrays = {}
        statistic = "mean"
        for dim, encoder in encoders.items():
            result, recorder, (statistic, items, gold) = self._ask_mteb(task, encoder, keeps_rankings)
            arrays.update({f"{dim}/{where}": values for where, values in items.items()})
            arrays.update({f"gold/{where}": values for where, values in gold.items()})
            main = float(result.get_score())
            if not math.isfinite(main):
                raise DataError(
                    f"{task.metadata.name}: {task.metadata.main_score} at {dim or 'no'} dims is not a number; are all "
                    "texts or all gold scores alike?"
                )
            scores[str(dim)] = {"main": main, "splits": _without_bulk(result.scores)}
            if recorder.rankings:
                files = save_rankings(self.out, task.metadata.name, dim, recorder.rankings, self.model.label)
                scores[str(dim)]["rankings"] = files
        return scores, statistic, arrays

    def _ask_mteb(self, task: Any, encoder: Any, keeps_rankings: bool) -> tuple[Any, ItemRecorder, KeptItems]:
        import mteb
        from mteb._set_seed import _set_seed  # noqa: PLC2701 (what mteb.evaluate itself calls)

        # A task draws its samples from a generator that runs on: every dim must see a fresh one, as mteb alone would.
        task.rng_state, task.np_rng = _set_seed(task.seed)
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as results:
            written = Path(results)
            recorder = ItemRecorder(task, Path(folder), keeps_rankings)
            result = mteb.evaluate(
                encoder,
                task,
                co2_tracker=False,
                cache=mteb.ResultCache(written),
                overwrite_strategy="always",
                encode_kwargs={"batch_size": 512, "show_progress_bar": False},
                prediction_folder=recorder.prediction_folder,
                show_progress_bar=False,
            ).task_results[0]
            _copy_files(written, self.out / "mteb")  # mteb writes them in place, and a full disk would cut them
            return result, recorder, recorder.items(result.scores)


def _copy_files(source: Path, target: Path) -> None:
    """Copy all files below a folder, each of which appears whole.

    Raises:
        DataError: one cannot be written.
    """
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        with whole_path(target / path.relative_to(source)) as temporary:
            shutil.copyfile(path, temporary)


def _cache_key(model: TextEmbedder | Bm25) -> str:
    """What decides the vectors of texts; results may depend on more."""
    return str(getattr(model, "cache_key", model.key))


def in_one_line(error: Exception, width: int = 200) -> str:
    """Kind and message of another library's error, whose message may have many lines."""
    return f"{type(error).__name__}: {textwrap.shorten(str(error), width, placeholder='...')}"


# By name: they are httpx's, requests', urllib3's and huggingface_hub's.
_UNREACHABLE = {"ConnectError", "ConnectTimeout", "ConnectionError", "MaxRetryError", "OfflineModeIsEnabled"}


def no_network(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that there is no network."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if type(error).__name__ in _UNREACHABLE:
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False


def describe(outcome: dict[str, Any]) -> str:
    """One line on a task's part of results.json: its scores, or why there are none."""
    if "error" in outcome or "skipped" in outcome:
        return str(outcome.get("error") or f"skipped, {outcome['skipped']}")
    return f"{outcome['main_score']} " + ", ".join(
        f"{100 * score['main']:.2f}" + (f" @{dim}" if dim != "0" else "") for dim, score in outcome["scores"].items()
    )


def _load(entry: Entry) -> Any:
    try:
        return entry.load()
    except GeckoError:
        raise
    except Exception as error:
        if entry.origin != "mteb":
            raise
        raise DataError(
            f"{entry.name}: its data cannot be had here ({in_one_line(error)}); run `gecko-eval prefetch {entry.name}` "
            "where there is a network, or set GECKO_DATA_DIR to a folder that holds it"
        ) from error


def _without_bulk(scores: Any) -> Any:
    """The scores of mteb without predictions, per-experiment lists and what it could not compute (NaN is no JSON)."""
    return {
        split: [{key: value for key, value in row.items() if _is_kept(key, value)} for row in rows]
        for split, rows in scores.items()
    }


def _is_kept(key: str, value: Any) -> bool:
    return key in ("hf_subset", "main_score") or (isinstance(value, (int, float)) and math.isfinite(value))


def _quiet() -> None:
    # mteb warns of every superseded task and every missing batch size; the run says what matters itself.
    logging.getLogger("mteb").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(mteb|sklearn|bm25s)(\..*)?")
    import datasets

    datasets.disable_progress_bars()
