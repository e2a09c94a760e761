"""Step ``mntp``: a language model that was made bidirectional learns to use it, by masked next-token prediction."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gecko_core.backbones import adapter_for
from gecko_core.errors import ConfigError, ModelError
from gecko_core.folder import resolve
from gecko_core.io import HUB, below_data_dir, find_data, make_progress, read_json
from gecko_core.text_identity import text_id
from gecko_fret.corpus import load_corpus
from gecko_train.config import Recipe
from gecko_train.loop.lora import check_lora
from gecko_train.run.inputs import Inputs, corpus_input, student_input
from gecko_train.run.steps.base import MNTP, Step
from gecko_train.run.steps.corpus import check_corpus, read_corpus

if TYPE_CHECKING:
    from gecko_fret.corpus import Corpus
    from gecko_train.run.journey import Journey


class Mntp(Step):
    """Trains on the passages left for training, and saves the model."""

    name, title, model = "mntp", "masked next-token prediction", MNTP

    def wanted(self, recipe: Recipe) -> bool:
        """See ``Step``."""
        return recipe.mntp.enabled

    def inputs(self, recipe: Recipe) -> Inputs:
        """See ``Step``."""
        path = recipe.mntp.path
        named = {"mntp.path": below_data_dir(path)} if path and not path.startswith(HUB) else {}
        return student_input(recipe.student) | (named or corpus_input(recipe.corpus.path))

    def check(self, recipe: Recipe) -> None:
        """See ``Step``: a corpus of its own."""
        path = recipe.mntp.path
        if path and not path.startswith(HUB):
            find_data(path)
        _check_student(recipe)
        check_lora(recipe.student.model, recipe.mntp.trainer.lora)

    def outputs(self, recipe: Recipe) -> list[str]:
        """See ``Step``."""
        return [self.model.folder]

    def plan(self, journey: Journey) -> list[str]:
        """See ``Step``."""
        corpus = self.corpus(journey)
        return [f"{corpus.name}: {len(corpus)} passages", journey.recipe.mntp.trainer.described("sequences")]

    def work(self, journey: Journey) -> Mapping[str, Any]:
        """See ``Step``."""
        from gecko_train.mntp import LanguageHead, Sequences, train_mntp

        recipe, config = journey.recipe, journey.recipe.mntp
        model = journey.load(self.model.start(recipe))
        head = LanguageHead.of(model, recipe.student.model)
        corpus = self.corpus(journey)
        length = config.trainer.max_seq_length or model.max_seq_length
        progress = make_progress(True, journey.console)
        sequences = Sequences.of_corpus(corpus, model, length, recipe.seed, progress=progress)
        summary = train_mntp(
            model, head, sequences, config, journey.folder.path / self.name,
            seed=recipe.seed, start=model.weights_hash(), console=journey.console,
        )  # fmt: skip
        record = {
            "corpus": corpus.name,
            "sequences": len(sequences),
            "length": int(sequences.ids.shape[1]),
            "settings": config.model_dump(mode="json", exclude={"enabled"}),
            **dataclasses.asdict(summary),
        }
        journey.keep(model, self.model)
        journey.save(self.model, journey.card({self.name: record}))
        return {
            **record,
            "note": f"{summary.steps} steps on {len(sequences)} sequences of {sequences.ids.shape[1]} tokens, "
            f"{summary.tokens / max(summary.seconds, 1e-9):,.0f} tokens/s, "
            f"loss {summary.first_loss:.3f} -> {summary.last_loss:.3f}",
        }

    def corpus(self, journey: Journey) -> Corpus:
        """What it learns from: not the test, also where it names a corpus of its own."""
        path = journey.recipe.mntp.path
        if not path:
            return journey.held_out.training
        whole, texts = load_corpus(find_data(path)), journey.held_out.texts
        return whole.subset([passage.id for passage in whole if text_id(passage.text) not in texts])


def _check_student(recipe: Recipe) -> None:
    """Check, where the start model is on this machine, that it is a language model with room for the sequences.

    Raises:
        ConfigError: it is not.
        ModelError: its config.json cannot be read.
    """
    path = resolve(recipe.student.model).path
    file = path / "config.json" if path is not None else None
    if file is None or not file.is_file():
        return
    config = read_json(file, error=ModelError, cure="fetch the model again")
    kind, room = config.get("model_type"), config.get("max_position_embeddings")
    if isinstance(kind, str) and not adapter_for(kind, file).causal:
        raise ConfigError(
            f"mntp: {kind} is no language model whose causal mask was lifted; give student.model one (llama, mistral, "
            "qwen2, qwen3, gemma)"
        )
    length = recipe.mntp.trainer.max_seq_length
    if length is not None and isinstance(room, int) and length > room:
        raise ConfigError(
            f"mntp.trainer.max_seq_length: {length}, and the model has positions for {room} tokens; give at most those"
        )


class MntpAlone(Mntp):
    """The step without the rest of the journey: the student as it is, the whole corpus."""

    model = dataclasses.replace(MNTP, folder="model")

    def wanted(self, recipe: Recipe) -> bool:
        """See ``Step``; who asks for this stage gets it, enabled or not."""
        return True

    def corpus(self, journey: Journey) -> Corpus:
        """See ``Mntp``."""
        path = journey.recipe.mntp.path
        return load_corpus(find_data(path)) if path else read_corpus(journey.recipe, journey.folder)

    def check(self, recipe: Recipe) -> None:
        """See ``Step``."""
        if not recipe.mntp.path:
            check_corpus(recipe)
        super().check(recipe)
