"""Building a FRet data set: the stages in their order over parts on disk, resumable at every part."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gecko_fret
from gecko_core.errors import ConfigError, DataError
from gecko_core.io import Progress, make_progress
from gecko_fret.build.fingerprints import (
    check_prompts,
    fingerprints,
    generators,
    part_count,
    prompt_hashes,
    prompt_sets,
    seed_count,
)
from gecko_fret.build.folder import FOLDERS, FORMAT, Workspace
from gecko_fret.build.models import Models
from gecko_fret.build.runner import PartRunner
from gecko_fret.config import CorpusConfig, FretConfig
from gecko_fret.corpus.load import load_corpus
from gecko_fret.corpus.passages import Corpus
from gecko_fret.steps.base import Row, StageResult, reject
from gecko_fret.steps.filter import Filter

Engine = Callable[["Build", str, list[int]], None]
UNITS = {
    "corpus": "passages",
    "write": "seeds",
    "filter": "seeds",
    "embed": "passages",
    "retrieve": "queries",
    "score": "queries",
    "mine": "queries",
}


class Stopped(Exception):
    """The caller's `stop` said so; everything up to the last part is on disk."""


@dataclass(slots=True)
class FretSummary:
    """What a build did. `seconds` and `tokens` are by stage and sum over all runs of the build."""

    path: Path
    complete: bool
    counts: dict[str, int] = field(default_factory=dict)
    rejects: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, dict[str, int]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"path": str(self.path)}


def read_corpus(section: CorpusConfig) -> Corpus:
    """The corpus that a configuration names. Raises `DataError`."""
    return load_corpus(
        section.path,
        split=section.split,
        deduplicate=section.deduplicate,
        near_threshold=section.near_threshold,
        language=section.language,
        limit=section.limit,
    )


def build(
    config: FretConfig,
    out: str | Path,
    *,
    corpus: Corpus | None = None,
    progress: Progress | bool | None = None,
    stop: Callable[[], bool] | None = None,
    force: bool = False,
    models: Models | None = None,
    engine: Engine | None = None,
) -> FretSummary:
    """Builds a FRet folder, or goes on with the one in `out`.

    corpus: passages to use instead of reading `config.corpus`.
    progress: True for bars or log lines on stderr, or an object with the methods of `Progress`.
    stop: asked after every part; True ends the build there with `complete=False`, and the same call goes on later.
    force: delete the parts that a changed configuration invalidates, instead of refusing.
    models, engine: ready-made models, and another way of running parts (`gecko_fret.build.ray`).

    The same configuration and corpus give the same bytes in every Parquet part. Raises `ConfigError` when `out` holds
    another build, `DataError`, `ModelError`, `BackendError`; whatever was finished before stays valid.
    """
    if corpus is None:
        corpus = read_corpus(config.corpus)
    if not len(corpus):
        raise DataError("the corpus is empty; there is nothing to write queries for")
    workspace = Workspace(out)
    workspace.check_usable()
    with workspace.locked():
        job = Build(config, workspace, corpus, models or Models(), make_progress(progress), stop, engine)
        try:
            job.prepare(force)
            return job.run()
        except Stopped:
            return job.summary(complete=False)
        finally:
            job.progress.finish()
            job.runner.close()


class Build:
    """One run of a build, from the first missing part to the last."""

    def __init__(
        self,
        config: FretConfig,
        workspace: Workspace,
        corpus: Corpus,
        models: Models,
        progress: Progress,
        stop: Callable[[], bool] | None,
        engine: Engine | None,
    ):
        self.config, self.workspace, self.corpus, self.progress = config, workspace, corpus, progress
        self.runner = PartRunner(workspace, config, models)
        self._stop, self._engine = stop, engine or run_local
        self.manifest: dict[str, Any] = {}
        self._saved = 0.0

    # -- before the first part

    def prepare(self, force: bool) -> None:
        """Checks the folder against the configuration, and clears what no longer fits where that is allowed."""
        self.workspace.remove_leftovers()
        check_prompts(self.config)
        wanted = fingerprints(self.config, self.corpus, self.runner.models)
        previous = self.workspace.read_manifest()
        stages = {name: {"fingerprint": wanted[name], "done": False, "seconds": 0.0} for name in FOLDERS}
        if previous is not None:
            changed = [name for name in FOLDERS if previous["stages"][name]["fingerprint"] != wanted[name]]
            if not force and any(self._part_files(name) for name in changed):
                self._refuse(changed)
            for name in FOLDERS:
                if name in changed:
                    self._clear(name)
                else:
                    stages[name] = previous["stages"][name]
        self.manifest = {
            "format": FORMAT,
            "gecko_fret": gecko_fret.__version__,
            "complete": False,
            "config": self.config.model_dump(mode="json"),
            "corpus": {"name": self.corpus.name, "passages": len(self.corpus), "sha256": self.corpus.hash},
            "models": self._model_record(),
            "prompts": prompt_hashes(self.config),
            "search": (previous or {}).get("search", {}),
            "stages": stages,
            "counts": {},
            "rejects": {},
            "tokens": {},
            "environment": environment(),
        }
        self.save()

    def _refuse(self, changed: list[str]) -> None:
        lost = [f"{len(self._part_files(name))} of {FOLDERS[name]}" for name in changed if self._part_files(name)]
        first = "the corpus has" if changed[0] == "corpus" else f"the settings of '{changed[0]}' have"
        raise ConfigError(
            f"{self.workspace.out}: holds another run: {first} changed since it was built; --force would "
            f"delete these parts: {', '.join(lost) or 'none'}; or choose another output folder"
        )

    def _part_files(self, stage: str) -> list[Path]:
        return sorted((self.workspace.out / FOLDERS[stage]).glob("part-*"))

    def _clear(self, stage: str) -> None:
        """Deletes a stage's parts and its rejects; the parts first, since they are what says that both are whole."""
        for path in self._part_files(stage):
            path.unlink()
        self.workspace.rejects(stage).clear()
        if stage == "embed" and self.runner.first_pass_folder.exists():
            shutil.rmtree(self.runner.first_pass_folder)

    def _model_record(self) -> dict[str, Any]:
        models, config = self.runner.models, self.config
        return {
            "llm": {"name": config.llm.model, "hash": models.llm_fingerprint(config.llm)},
            "generators": [
                {"name": llm.model, "hash": models.llm_fingerprint(llm), "weight": llm.weight}
                for llm in generators(config)
            ],
            "embedder": {"name": config.embedder.model, "hash": models.embedder_fingerprint(config.embedder)},
        }

    # -- the stages

    def run(self) -> FretSummary:
        """All stages in their order."""
        self._stage("corpus", part_count(len(self.corpus), self.config.corpus.part_size), self._write_corpus)
        self._stage("write", part_count(seed_count(self.config, self.corpus), self.config.generate.part_size))
        self._filter()
        queries = len(self.workspace.parts("filter").numbers())
        if self.config.retrieve.first_pass:
            self._first_pass()
        self._stage("embed", part_count(len(self.corpus), self.config.corpus.part_size))
        self._stage("retrieve", queries)
        if not self.manifest["search"]:
            self.manifest["search"] = self.runner.search_record()
        self._stage("score", queries)
        self._stage("mine", queries)
        return self._finish()

    def _stage(self, name: str, count: int, run: Callable[[list[int]], None] | None = None) -> None:
        """Runs the missing parts of a stage."""
        if self.manifest["stages"][name]["done"]:
            return
        self._check_stop()
        missing = [number for number in range(count) if not self._has(name, number)]
        there = sum(self._units(name, number) for number in range(count) if number not in set(missing))
        total = self._total(name, count)
        self.progress.start(name, total, there, UNITS[name])
        if missing:
            if run is not None:
                run(missing)
            else:
                self._engine(self, name, missing)
        self.progress.finish()
        self._done(name)

    def _has(self, name: str, number: int) -> bool:
        if name == "embed":
            return self.runner.embeddings().exists(number)
        return self.workspace.parts(name).exists(number)

    def _units(self, name: str, number: int) -> int:
        if name == "corpus":  # not on disk yet, where the runner would look
            size = self.config.corpus.part_size
            return min(size, len(self.corpus) - number * size)
        return self.runner.units(name, number)

    def _total(self, name: str, count: int) -> int:
        if name in ("corpus", "embed"):
            return len(self.corpus)
        if name == "write":
            return seed_count(self.config, self.corpus)
        return sum(self._units(name, number) for number in range(count))

    def record(self, name: str, units: int, seconds: float) -> None:
        """A part is on disk: progress, time, and the caller's chance to stop. Engines call it once per part."""
        self.manifest["stages"][name]["seconds"] += seconds
        self.progress.advance(units)
        if time.monotonic() - self._saved > 5:
            self.save()
        self._check_stop()

    def _check_stop(self) -> None:
        if self._stop is not None and self._stop():
            self.save()
            raise Stopped

    def _done(self, name: str) -> None:
        self.manifest["stages"][name]["done"] = True
        self.save()

    def save(self) -> None:
        self._saved = time.monotonic()
        self.workspace.write_manifest(self.manifest)

    def _write_corpus(self, missing: list[int]) -> None:
        size, parts = self.config.corpus.part_size, self.workspace.parts("corpus")
        dropped = [reject("corpus", d.reason, d.id, d.text, d.detail) for d in self.corpus.dropped]
        for number in missing:
            began = time.monotonic()
            table = self.corpus.table.slice(number * size, size)
            self.workspace.rejects("corpus").write(number, dropped if number == 0 else [])
            parts.write(number, table.to_pylist())
            self.record("corpus", len(table), time.monotonic() - began)

    def _filter(self) -> None:
        """Judges all attempts in their order, and lays the queries that are left into parts of their own size."""
        if self.manifest["stages"]["filter"]["done"]:
            return
        self._check_stop()
        began = time.monotonic()
        judge = Filter(self.corpus, prompt_sets(self.config)[0], self.config.generate)
        attempts, parts, rejects = (
            self.workspace.parts("write"),
            self.workspace.parts("filter"),
            self.workspace.rejects("filter"),
        )
        parts.clear()
        rejects.clear()
        self.progress.start("filter", len(attempts.numbers()), 0, "parts")
        size, waiting, written = self.config.retrieve.part_size, list[Row](), 0
        for number in attempts.numbers():
            result: StageResult = judge(attempts.rows(number))
            rejects.write(number, result.rejects)
            waiting += result.rows
            while len(waiting) >= size:
                parts.write(written, waiting[:size])
                waiting, written = waiting[size:], written + 1
            self.progress.advance(1)
        if waiting:
            parts.write(written, waiting)
            written += 1
        self.progress.finish()
        if not written:
            reasons = self.workspace.reject_counts().get("generate", {})
            listed = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
            raise DataError(
                f"{self.workspace.out}: none of the {sum(reasons.values())} attempts gave a query ({listed}); "
                "look at rejects/, then try a larger llm.model or looser generate.* settings"
            )
        self.manifest["stages"]["filter"]["seconds"] += time.monotonic() - began
        self._done("filter")

    def _first_pass(self) -> None:
        """Trains the embedder of this build and saves it in the folder, where all workers find it. Done once."""
        folder = self.runner.first_pass_folder
        if self.manifest["stages"]["retrieve"]["done"] or folder.exists():
            return
        from gecko_fret.steps.first_pass import train_first_pass

        queries = list(self.workspace.parts("filter"))
        embedder = self.runner.models.embedder(self.config.embedder)
        self.progress.start("train", len(queries), 0, "queries")
        train_first_pass(embedder, queries, self.corpus, self.config.seed, on_step=self.progress.advance)
        self.progress.finish()
        embedder.save_pretrained(folder, record={"first_pass": len(queries)})

    # -- after the last part

    def _finish(self) -> FretSummary:
        self.manifest["counts"] = self.workspace.counts()
        self.manifest["rejects"] = self.workspace.reject_counts()
        self.manifest["tokens"] = self.workspace.token_counts()
        if not self.manifest["counts"]["rows"]:
            self.save()
            listed = ", ".join(
                f"{stage} {reason} {count}"
                for stage, reasons in self.manifest["rejects"].items()
                for reason, count in reasons.items()
            )
            raise DataError(
                f"{self.workspace.out}: no row survived ({listed}); write more queries (generate.seeds) or loosen "
                "retrieve.seed_top_k and mine.*"
            )
        from gecko_fret.build.report import write_report

        write_report(self.workspace.out)
        self.manifest["complete"] = True
        self.save()
        return self.summary(complete=True)

    def summary(self, complete: bool) -> FretSummary:
        workspace, stages = self.workspace, self.manifest["stages"]
        return FretSummary(
            path=workspace.out,
            complete=complete,
            counts=workspace.counts(),
            rejects=workspace.reject_counts(),
            seconds={name: round(stages[name]["seconds"], 3) for name in FOLDERS},
            tokens=workspace.token_counts(),
        )


def run_local(build: Build, stage: str, missing: list[int]) -> None:
    """The engine of one machine: part after part in this process."""
    for number in missing:
        began = time.monotonic()
        units = build.runner.run(stage, number)
        build.record(stage, units, time.monotonic() - began)


def environment() -> dict[str, Any]:
    """What the numbers were computed with."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "pyarrow": version("pyarrow"),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
