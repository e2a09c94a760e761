"""The corpus' embeddings as parts on disk: made once for a corpus and a model, resumable, memory-mapped."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gecko_core.errors import DataError
from gecko_core.io import PartList, Progress, remove_folder, user_path, whole_file
from gecko_fret.config import FretConfig
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.steps.base import BuildContext, PartStep, Step, StepResult, Work
from gecko_fret.steps.corpus import CORPUS
from gecko_fret.steps.filter import FILTER
from gecko_fret.steps.first_pass import FIRST_PASS, build_embedder, first_pass_folder, prepare_first_pass
from gecko_fret.steps.parts import part_count
from gecko_fret.steps.plan import Plan, StepCost


def embedding_key(corpus: Corpus, embedder: Any, part_size: int) -> str:
    """Name of the embeddings of this corpus by this model; builds with the same key share them."""
    # A stand-in for a Gecko may know no more of itself than its weights.
    model = embedder.identity() if hasattr(embedder, "identity") else embedder.weights_hash()
    parts = (corpus.hash, model, embedder.prompt_style, embedder.max_seq_length, part_size)
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:24]


class CorpusEmbeddings:
    """Numbered .npy blocks of ``part_size`` passages each, float32, unit rows.

    Args:
        folder: where the blocks are.
        corpus: the passages.
        part_size: passages per block.
        listed: the list that blocks are checked against, by their paths relative to its folder; None: the folder is
            shared by builds, and keeps a list of its own.
    """

    def __init__(self, folder: str | Path, corpus: Corpus, part_size: int, listed: PartList | None = None):
        self.folder, self._corpus, self._part_size = Path(folder), corpus, part_size
        self._is_shared = listed is None
        self._listed = PartList.read(folder) if listed is None else listed
        self._sound: set[int] = set()  # blocks that were checked before

    def __len__(self) -> int:
        return part_count(len(self._corpus), self._part_size)

    def path(self, number: int) -> Path:
        """File of block ``number``."""
        return self.folder / f"part-{number:05d}.npy"

    def exists(self, number: int) -> bool:
        """Whether block ``number`` has been written, and in a shared folder is what was written."""
        if not self._is_shared:
            return self.path(number).exists()
        if number not in self._sound and self._listed.fault(self._name(number)) is None:
            self._sound.add(number)
        return number in self._sound

    def _name(self, number: int) -> str:
        return self.path(number).relative_to(self._listed.folder).as_posix()

    def write(self, number: int, vectors: np.ndarray) -> None:
        """Write block ``number``, complete or not at all."""
        with whole_file(self.path(number)) as file:
            np.save(file, np.asarray(vectors, dtype=np.float32))
        if self._is_shared:
            self._listed.note(self._name(number), len(vectors))
            self._listed.write()

    def blocks(self) -> list[np.ndarray]:
        """All blocks, memory-mapped.

        Raises:
            DataError: a block is missing or damaged.
        """
        blocks = []
        cure = "run the same build again to make it again"
        for number in range(len(self)):
            if self._name(number) in self._listed and number not in self._sound:
                self._listed.check(self._name(number), cure)
                self._sound.add(number)
            try:
                block = np.load(self.path(number), mmap_mode="r")
            except (OSError, ValueError, EOFError) as error:
                reason = (str(error).splitlines() or [""])[0]
                raise DataError(f"{self.path(number)}: cannot be read ({reason}); {cure}") from None
            blocks.append(block)
        return blocks


class EmbedStep(PartStep[Passage, np.ndarray]):
    """Passages to vectors. Its parts are NumPy blocks, in the folder or in the cache that the configuration names."""

    name = "embed"
    section = "embedder"
    folder = "embeddings"
    unit = "passages"
    upstream = (CORPUS,)

    def depends_on(self, config: FretConfig) -> tuple[Step[Any], ...]:
        """The corpus; also the queries, where they train the embedder first."""
        return (CORPUS, FILTER) if config.retrieve.first_pass else (CORPUS,)

    def fingerprint(self, build: BuildContext) -> list[Any]:
        """The embedder and its prompts."""
        config = build.config.embedder
        return [build.models.embedder_fingerprint(config), config.prompt_style]

    def estimate(self, plan: Plan) -> StepCost:
        """See ``Step.estimate``."""
        return StepCost(f"{plan.passages} passages")

    def embeddings(self, build: BuildContext) -> CorpusEmbeddings:
        """The blocks of a build."""
        cache, part_size = build.config.retrieve.cache, build.config.corpus.part_size
        folder, listed = build.out / self.folder, build.listed
        if cache and not build.config.retrieve.first_pass:
            return build.keep("shared embeddings", lambda: self._shared(build, user_path(cache)))
        return CorpusEmbeddings(folder, build.corpus, part_size, listed)

    def _shared(self, build: BuildContext, cache: Path) -> CorpusEmbeddings:
        """Made once: the key reads all weights of the embedder."""
        part_size = build.config.corpus.part_size
        key = embedding_key(build.corpus, build.models.embedder(build.config.embedder), part_size)
        return CorpusEmbeddings(cache / key, build.corpus, part_size)

    def prepare(self, build: BuildContext, progress: Progress) -> None:
        """Train the embedder first, where the configuration asks for it."""
        prepare_first_pass(build, progress)

    def extra_files(self, out: Path) -> list[Path]:
        """The embedder that was trained."""
        return sorted(path for path in first_pass_folder(out).rglob("*") if path.is_file())

    def owns(self, name: str) -> bool:
        """See ``Step.owns``."""
        return super().owns(name) or name.startswith(f"{FIRST_PASS}/")

    def clear(self, out: Path) -> None:
        """Delete the blocks, and the embedder that was trained for them."""
        super().clear(out)
        remove_folder(first_pass_folder(out))

    def part_count(self, build: BuildContext) -> int:
        """Blocks that the corpus fills."""
        return CORPUS.part_count(build)

    def units(self, build: BuildContext, number: int) -> int:
        """Passages of block ``number``."""
        return CORPUS.units(build, number)

    def exists(self, build: BuildContext, number: int) -> bool:
        """Whether block ``number`` has been written."""
        return self.embeddings(build).exists(number)

    def inputs(self, build: BuildContext, number: int) -> Sequence[Passage]:
        """Passages of block ``number``."""
        return CORPUS.inputs(build, number)

    def make(self, build: BuildContext) -> Work[Passage, np.ndarray]:
        """Load the embedder."""
        embedder, batch_tokens = build_embedder(build), build.config.embedder.batch_tokens

        def embed(passages: Sequence[Passage]) -> StepResult[np.ndarray]:
            texts, titles = [passage.text for passage in passages], [passage.title for passage in passages]
            return StepResult(list(embedder.encode_documents(texts, titles, batch_tokens=batch_tokens)))

        return embed

    def write(self, build: BuildContext, number: int, result: StepResult[np.ndarray]) -> None:
        """Write the vectors as block ``number``."""
        self.embeddings(build).write(number, np.stack(result.rows))


EMBED = EmbedStep()
