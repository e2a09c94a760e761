"""Doing one part of one stage: inputs from disk, the stage function, outputs to disk. Engines call nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gecko_fret.build.fingerprints import generators, prompt_sets, seed_count
from gecko_fret.build.folder import Workspace
from gecko_fret.build.models import Models, load_embedder
from gecko_fret.config import FretConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.steps.base import Row, Stage
from gecko_fret.steps.embed import CorpusEmbeddings, embedding_key
from gecko_fret.steps.index import Index, make_index, recall
from gecko_fret.steps.mine import Mine
from gecko_fret.steps.retrieve import Retrieve
from gecko_fret.steps.score import Score
from gecko_fret.steps.seeds import sample_seeds
from gecko_fret.steps.write import Generate


class PartRunner:
    """Runs parts of the stages `write`, `embed`, `retrieve`, `score` and `mine` of one workspace.

    Models and indexes are made when a stage first needs them and serve all its parts. Everything it needs is in the
    workspace and the configuration, so that a process on another machine that sees the folder can do the same work.
    """

    def __init__(self, workspace: Workspace, config: FretConfig, models: Models | None = None):
        self.workspace, self.config = workspace, config
        self.models = models or Models()
        self._stages: dict[str, Stage] = {}
        self._seed_rows: list[int] | None = None
        self._index: Index | None = None
        self._trained: Any = None

    @property
    def corpus(self) -> Corpus:
        return self.workspace.corpus

    def run(self, stage: str, number: int) -> int:
        """Does part `number` of `stage` unless it is there; returns how many units of progress it holds."""
        if stage == "embed":
            return self._embed(number)
        parts = self.workspace.parts(stage)
        inputs = self._inputs(stage, number)
        if not parts.exists(number):
            result = self._stage(stage)(inputs)
            # The rejects go first: a part of the stage that exists says that both are whole.
            self.workspace.rejects(stage).write(number, result.rejects)
            parts.write(number, result.rows, result.counters)
        return len(inputs)

    def units(self, stage: str, number: int) -> int:
        """Units of progress in a part: passages, seeds or queries."""
        if stage == "embed":
            size = self.config.corpus.part_size
            return min(size, len(self.corpus) - number * size)
        if stage == "write":
            size, seeds = self.config.generate.part_size, seed_count(self.config, self.corpus)
            return min(size, seeds - number * size)
        queries = self.workspace.parts("filter").count(number)
        if stage == "retrieve":
            return queries
        return queries - self.workspace.rejects("retrieve").count(number)

    def embeddings(self) -> CorpusEmbeddings:
        """Where the corpus' embeddings are, in the folder or in the cache that the configuration names."""
        cache, part_size = self.config.retrieve.cache, self.config.corpus.part_size
        folder = self.workspace.out / "embeddings"
        if cache and not self.config.retrieve.first_pass:
            embedder = self.models.embedder(self.config.embedder)
            folder = Path(cache).expanduser() / embedding_key(self.corpus, embedder, part_size)
        return CorpusEmbeddings(folder, self.corpus, part_size)

    def search_record(self) -> dict[str, Any]:
        """Kind of search, and its recall against exact search, for the manifest."""
        index = self._search_index()
        kind = type(index).__name__.removesuffix("Index").lower()
        count = self.config.retrieve.candidates
        blocks = self.embeddings().blocks()
        measured = 1.0 if kind == "exact" else recall(index, blocks, count, seed=self.config.seed)
        return {"kind": kind, f"recall_at_{count}": measured}

    def close(self) -> None:
        self._stages.clear()
        self.models.close()

    # -- inputs and stages

    def _inputs(self, stage: str, number: int) -> Sequence[Row]:
        if stage == "write":
            if self._seed_rows is None:
                self._seed_rows = sample_seeds(self.corpus, self.config.generate.seeds, self.config.seed)
            size = self.config.generate.part_size
            rows = self._seed_rows[number * size : (number + 1) * size]
            return [{"seed_id": self.corpus[row].id} for row in rows]
        if stage == "retrieve":
            return self.workspace.parts("filter").rows(number)
        if stage == "score":
            return self.workspace.score_inputs(number)
        return self.workspace.mine_inputs(number)

    def _stage(self, stage: str) -> Stage:
        if stage not in self._stages:
            makers: dict[str, Callable[[], Stage]] = {
                "write": self._make_generate,
                "retrieve": self._make_retrieve,
                "score": self._make_score,
                "mine": self._make_mine,
            }
            self._stages[stage] = makers[stage]()
        return self._stages[stage]

    def _make_generate(self) -> Stage:
        llms = [(self.models.llm(llm), llm.weight) for llm in generators(self.config)]
        return Generate(self.corpus, llms, prompt_sets(self.config)[0], self.config.generate, self.config.seed)

    def _make_retrieve(self) -> Stage:
        config = self.config
        return Retrieve(
            self.corpus, self._embedder(), self._search_index(), config.retrieve, config.embedder.batch_tokens
        )

    def _make_score(self) -> Stage:
        return Score(self.corpus, self.models.llm(self.config.llm), prompt_sets(self.config)[1], self.config.score)

    def _make_mine(self) -> Stage:
        contaminated = None
        if self.config.mine.decontaminate:
            from gecko_fret.corpus.contamination import Contamination

            contaminated = Contamination.load(self.config.mine.decontaminate).find
        return Mine(self.corpus, self.config.mine, self.config.seed, contaminated)

    @property
    def first_pass_folder(self) -> Path:
        """Where the embedder of the first pass is saved (`retrieve.first_pass`)."""
        return self.workspace.out / "first_pass"

    def _embedder(self) -> Any:
        config = self.config.embedder
        if self.config.retrieve.first_pass:
            if self._trained is None:
                self._trained = load_embedder(config.model_copy(update={"model": str(self.first_pass_folder)}))
            return self._trained
        return self.models.embedder(config)

    def _search_index(self) -> Index:
        if self._index is None:
            config = self.config.retrieve
            self._index = make_index(
                self.embeddings().blocks(),
                config.search,
                hnsw_above=config.hnsw_above,
                repeatable=config.hnsw_repeatable,
                device=self.config.embedder.device,
            )
        return self._index

    def _embed(self, number: int) -> int:
        embeddings = self.embeddings()
        if not embeddings.exists(number):
            embeddings.make(number, self._embedder(), self.config.embedder.batch_tokens)
        return self.units("embed", number)
