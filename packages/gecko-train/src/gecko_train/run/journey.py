"""The whole journey of a recipe: corpus -> test set apart -> pre-finetune -> FRet -> fine-tune, measured after each.

Every stage leaves its result in the output folder before the next begins, so a run that was stopped goes on where it
was, and a finished one only shows its closing screen again.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import write_json
from gecko_core.randomness import Stream, stream_generator
from gecko_fret.corpus import Corpus, load_corpus
from gecko_train.config import Recipe, StageConfig
from gecko_train.data.sources.base import SourceContext
from gecko_train.loop.watch import make_console
from gecko_train.run.folder import RunFolder, peak_memory_gb

if TYPE_CHECKING:
    from gecko_core import Gecko
    from gecko_train.data.holdout import HeldOut

START, PREFINETUNED, FINETUNED = "start", "pre-finetuned", "fine-tuned"


def run_recipe(recipe: Recipe, console: Console | None = None) -> dict[str, Any]:
    """Run (or finish, or show again) a recipe in its output folder; returns what ``results.json`` holds.

    Raises:
        GeckoError: anything a user can cause, in one line.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "run: the whole journey is for one process; with torchrun use `prefinetune`, then `gecko-fret build`, then "
            "`finetune`"
        )
    console = console or make_console()
    with RunFolder.claim(recipe.folder, recipe) as folder:
        results = folder.finished("results")
        if results is None:
            results = Journey(recipe, folder, console).run()
        else:
            console.print(
                f"{folder.path}: this run finished on {results['finished']}; nothing is run again", highlight=False
            )
        from gecko_train.run.closing import closing_screen

        closing_screen(console, results, folder.path)
    return results


class Journey:
    """State shared by the stages; what a finished stage would have left in memory is loaded only when asked for."""

    def __init__(self, recipe: Recipe, folder: RunFolder, console: Console):
        self.recipe, self.folder, self.console = recipe, folder, console
        self._held_out: HeldOut | None = None
        self._model: Gecko | None = None
        self._model_name: str | None = None
        self._number = 0
        self._steps = 2 + 2 * recipe.prefinetune.enabled + (2 + self._reads_fret) * recipe.finetune.enabled

    def run(self) -> dict[str, Any]:
        stages = [self._stage("corpus", "read the corpus", self._read_corpus)]
        stages.append(self._stage("evaluate-start", "evaluate the start model", lambda: self._evaluate(START)))
        if self.recipe.prefinetune.enabled:
            stages.append(self._prefinetune())
            stages.append(self._stage("evaluate-prefinetuned", "evaluate", lambda: self._evaluate(PREFINETUNED)))
        if self.recipe.finetune.enabled:
            if self._reads_fret:
                stages.append(self._fret())
            stages.append(self._stage("finetune", "fine-tune", lambda: self._train(FINETUNED)))
            stages.append(self._stage("evaluate-finetuned", "evaluate", lambda: self._evaluate(FINETUNED)))
        return self.folder.stage("results", lambda: self._close(stages))

    def up_to_fret(self) -> None:
        """Only what an ablation of fine-tuning starts from: corpus, pre-finetuned model, FRet data."""
        self._stage("corpus", "read the corpus", self._read_corpus)
        if self.recipe.prefinetune.enabled:
            self._prefinetune()
        if self._reads_fret:
            self._fret()

    @property
    def _reads_fret(self) -> bool:
        return any(one.source == "fret" and one.path is None for one in self.recipe.finetune.sets)

    def fresh_finetuning_start(self) -> Gecko:
        """The model that fine-tuning starts from, read again."""
        self._model = None
        return self._load(self._before_finetuning())

    def _before_finetuning(self) -> str:
        return PREFINETUNED if self.recipe.prefinetune.enabled else START

    def _prefinetune(self) -> dict[str, Any]:
        return self._stage("prefinetune", "pre-finetune on title-body pairs", lambda: self._train(PREFINETUNED))

    def _fret(self) -> dict[str, Any]:
        return self._stage("fret", "FRet: the LLM writes queries and judges neighbours", self._build_fret)

    def _stage(self, name: str, title: str, work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        self._number += 1
        heading = f"[{self._number}/{self._steps}] {title}"
        known = self.folder.finished(name)
        if known is not None:
            self._say(f"{heading}: done before ({known['note']})")
            return known
        self._say(heading)
        started = time.perf_counter()

        def timed() -> dict[str, Any]:
            result = dict(work())
            seconds = time.perf_counter() - started
            return {"title": title, "seconds": seconds, "peak_memory_gb": peak_memory_gb(), **result}

        done = self.folder.stage(name, timed)
        self._say(f"      {done['note']} ({done['seconds']:.0f} s)")
        return done

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    # ---- corpus and test ----

    def _read_corpus(self) -> dict[str, Any]:
        corpus = self._corpus()
        held_out = self._split(corpus)
        return {
            "name": corpus.name,
            "hash": corpus.hash,
            "passages": len(corpus),
            "queries": len(held_out.test.queries),
            "documents": len(held_out.test.docs),
            "note": f"{corpus.name}: {len(corpus)} passages; {len(held_out.test.queries)} of them set apart as the "
            f"test, {len(held_out.training)} left for training",
        }

    def _corpus(self) -> Corpus:
        config = self.recipe.corpus
        corpus = load_corpus(config.path)
        if config.max_passages and config.max_passages < len(corpus):
            generator = stream_generator(self.recipe.seed, Stream.CORPUS_SAMPLE)
            chosen = generator.permutation(len(corpus))[: config.max_passages]
            corpus = corpus.subset([corpus.ids[place] for place in chosen])
        known = self.folder.finished("corpus")
        if known is not None and known["hash"] != corpus.hash:
            raise ConfigError(
                f"{self.folder.path}: the corpus has changed since this run began; choose another folder with --out"
            )
        return corpus

    def _split(self, corpus: Corpus) -> HeldOut:
        from gecko_train.data.holdout import hold_out

        self._held_out = hold_out(corpus, self.recipe.evaluation, self.recipe.seed)
        return self._held_out

    @property
    def held_out(self) -> HeldOut:
        return self._held_out or self._split(self._corpus())

    # ---- models ----

    def _load(self, name: str) -> Gecko:
        if self._model is None or self._model_name != name:
            from gecko_core import Gecko
            from gecko_train.run.stage import load_student

            self._model = None
            if name == START:
                self._model = load_student(self.recipe.student)
            else:
                self._model = Gecko.from_pretrained(self._saved(name))
            self._model_name = name
        return self._model

    def _saved(self, name: str) -> Path:
        return self.folder.path / ("model" if name == FINETUNED else "prefinetune/model")

    def _evaluate(self, name: str) -> dict[str, Any]:
        from gecko_eval.in_training import evaluate_retrieval
        from gecko_train.run.closing import METRICS

        model = self._load(name)
        scores = evaluate_retrieval(model, self.held_out.test, list(self.recipe.student.dims))
        per_query = {
            str(dim): {metric: [round(float(value), 6) for value in found.per_query[metric]] for metric in METRICS}
            for dim, found in scores.items()
        }
        shown = ", ".join(f"{dim} dims {np.mean(metrics['ndcg_at_10']):.3f}" for dim, metrics in per_query.items())
        return {"per_query": per_query, "weights": model.weights_hash(), "note": f"nDCG@10: {shown}"}

    def _train(self, name: str) -> dict[str, Any]:
        from gecko_train.run.stage import train_stage

        config = self._stage_config(name)
        model = self._load(self._before_finetuning() if name == FINETUNED else START)
        context = SourceContext(self.held_out.training, self.folder.path / "fret", self.recipe.seed)
        work = self.folder.path / ("finetune" if name == FINETUNED else "prefinetune")
        result = train_stage(
            model, config, context, work,
            dims=self.recipe.student.dims, title=name, identity=model.weights_hash(), console=self.console,
        )  # fmt: skip
        self._model_name = name
        record = result.record(config)
        model.eval()
        model.save_pretrained(self._saved(name), record=self._card(name, record), dims=tuple(self.recipe.student.dims))
        summary = result.summary
        return {
            **record,
            "note": f"{summary.steps} steps on {sum(result.rows.values())} rows, "
            f"{summary.tokens / max(summary.seconds, 1e-9):,.0f} tokens/s, "
            f"loss {summary.first_loss:.3f} -> {summary.last_loss:.3f}",
        }

    def _stage_config(self, name: str) -> StageConfig:
        return self.recipe.finetune if name == FINETUNED else self.recipe.prefinetune

    def _card(self, name: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """The training record of the model card: what was done, on what, with which versions."""
        stages = {
            stage: self.folder.finished(stage)
            for stage in ("corpus", "evaluate-start", "prefinetune", "evaluate-prefinetuned", "fret")
        }
        for known in stages.values():
            if known:
                known.pop("per_query", None)
        stages["finetune" if name == FINETUNED else "prefinetune"] = dict(record)
        return {
            "name": self.recipe.name,
            "recipe": self.recipe.name,
            "start_model": self.recipe.student.model,
            "seed": self.recipe.seed,
            "stages": {key: value for key, value in stages.items() if value},
            "versions": {
                package: importlib.metadata.version(package)
                for package in ("gecko-train", "gecko-core", "torch", "transformers")
            },
        }

    # ---- FRet ----

    def _build_fret(self) -> dict[str, Any]:
        from gecko_fret.build.pipeline import build

        self._model = None  # the LLM needs the memory more
        started = time.perf_counter()
        summary = build(self.recipe.fret, self.folder.path / "fret", corpus=self.held_out.training, progress=True)
        if not summary.complete:
            raise DataError(
                f"{self.folder.path / 'fret'}: FRet was stopped before its end; the same command goes on with it"
            )
        manifest = json.loads((self.folder.path / "fret" / "manifest.json").read_text())
        from gecko_fret import load_fret

        rows = load_fret(self.folder.path / "fret")
        moved = sum(1 for row in rows if row.positive.id != row.seed_id)
        share = moved / len(rows) if len(rows) else 0.0
        return {
            "rows": len(rows),
            "positive_is_not_the_seed": share,
            "counts": manifest.get("counts", {}),
            "fret_seconds": time.perf_counter() - started,
            "note": f"{len(rows)} rows (task, query, positive, negative); the LLM chose another passage than the seed "
            f"for {share:.0%}",
        }

    # ---- the end ----

    def _close(self, stages: list[dict[str, Any]]) -> dict[str, Any]:
        from gecko_train.run.closing import compare_models, verdict

        models = {}
        for name, file in ((START, "start"), (PREFINETUNED, "prefinetuned"), (FINETUNED, "finetuned")):
            known = self.folder.finished(f"evaluate-{file}")
            if known:
                models[name] = known["per_query"]
        corpus = self.folder.finished("corpus") or {}
        lines = compare_models(models)
        last = next(reversed(models))
        if last != START:
            self._save_with_scores(last, models[last], corpus)
        if not self.recipe.finetune.enabled and self._saved(PREFINETUNED).exists():
            shutil.copytree(self._saved(PREFINETUNED), self._saved(FINETUNED), dirs_exist_ok=True)
        results = {
            "recipe": self.recipe.name,
            "queries": corpus["queries"],
            "documents": corpus["documents"],
            "scores": lines,
            "verdict": verdict(lines, corpus["queries"]),
            "stages": [{key: stage[key] for key in ("title", "seconds", "peak_memory_gb", "note")} for stage in stages],
            "files": self._files(),
            "machine": {
                "processor": platform.machine(),
                "system": platform.system(),
                "python": platform.python_version(),
            },
            "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        }
        write_json(self.folder.path / "results.json", results)
        return results

    def _save_with_scores(self, name: str, scores: Mapping[str, Any], corpus: Mapping[str, Any]) -> None:
        """Write the last model again, now that its scores are known: they are part of its card."""
        from gecko_train.run.closing import METRICS

        model = self._load(name)
        stage = self.folder.finished("finetune" if name == FINETUNED else "prefinetune") or {}
        record = self._card(name, {key: value for key, value in stage.items() if key not in ("title", "note")})
        record["scores"] = [
            {"task": "Retrieval", "dataset": f"known-item search in {corpus['name']}", "dim": int(dim),
             "metric": metric, "value": float(np.mean(values[metric]))}
            for dim, values in scores.items()
            for metric in METRICS
        ]  # fmt: skip
        model.eval()
        model.save_pretrained(self._saved(name), record=record, dims=tuple(self.recipe.student.dims))

    def _files(self) -> dict[str, str]:
        files = {
            "model": "model",
            "training data": "fret",
            "curves": "finetune/curves.png",
            "scores": "results.json",
            "recipe": "recipe.yaml",
        }
        return {
            what: where
            for what, where in files.items()
            if (self.folder.path / where).exists() or where == "results.json"
        }
