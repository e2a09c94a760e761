"""Cross-encoder: a reranker that reads query and passage together and gives a number."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from gecko_core.backbones import check_folder, check_modules
from gecko_core.errors import ConfigError, ModelError, first_line
from gecko_core.folder import resolve
from gecko_fret.config import CrossEncoderConfig, FretConfig
from gecko_fret.judges.base import Batch, Judge, JudgeSetup
from gecko_fret.models import Models
from gecko_fret.prompting import prompt_text

_MISSING = "judge cross-encoder needs sentence-transformers; pip install 'gecko-fret[rerank]'"


class CrossEncoderJudge(Judge):
    """The logit of a sequence classifier with one output (sentence-transformers' ``CrossEncoder``), no activation."""

    name = "cross-encoder"

    def __init__(self, setup: JudgeSetup):
        super().__init__(setup)
        self._config = config = setup.config.score.cross_encoder
        self._model = setup.models.keep(f"cross-encoder {config.model_dump_json()}", lambda: load_cross_encoder(config))

    def judge(self, batch: Batch) -> Sequence[float]:
        """The logit of every pair; pairs are sorted by length and read ``batch_size`` at a time."""
        from torch.nn import Identity

        try:
            scores = self._model.predict(
                [(pair.query, prompt_text(pair.passage)) for pair in batch.pairs],
                batch_size=self._config.batch_size,
                activation_fn=Identity(),
                show_progress_bar=False,
            )
        except IndexError:  # of its embeddings
            raise ModelError(
                f"score.cross_encoder: the tokenizer of {self._config.model!r} has tokens that its model lacks; "
                "it is another model's"
            ) from None
        return [float(score) for score in scores]

    @classmethod
    def check(cls, config: FretConfig) -> None:
        """It has a model, and the library is there."""
        if not config.score.cross_encoder.model:
            raise ConfigError("score.judges: cross-encoder needs score.cross_encoder.model, a folder or a hub id")
        if find_spec("sentence_transformers") is None:
            raise ModelError(_MISSING)

    @classmethod
    def own_model(cls, config: FretConfig) -> tuple[str, str, str | None] | None:
        """See ``Judge``."""
        section = config.score.cross_encoder
        return "score.cross_encoder", str(section.model), section.device

    @classmethod
    def fingerprint(cls, config: FretConfig, models: Models) -> list[Any]:
        """Its weights, and how much it reads."""
        section = config.score.cross_encoder
        return [models.weights_fingerprint(str(section.model)), section.max_length]


def load_cross_encoder(config: CrossEncoderConfig) -> Any:
    """Load the reranker of ``score.cross_encoder``.

    Raises:
        ModelError: it cannot be loaded, is no reranker, or its library is not installed.
    """
    try:
        from sentence_transformers import CrossEncoder
    except ImportError:
        raise ModelError(_MISSING) from None
    resolved = resolve(str(config.model))
    if resolved.path is not None:
        check_folder(resolved.path)
    try:
        model = CrossEncoder(str(resolved.path or resolved.hub_id), max_length=config.max_length, device=config.device)
    except Exception as error:  # whatever a damaged folder makes of the library
        raise ModelError(f"score.cross_encoder: {config.model!r} cannot be loaded ({first_line(error)})") from None
    try:
        check_modules(model, config.model)  # of a model without it, the head that scores is made up at random
    except ModelError as error:
        raise ModelError(f"score.cross_encoder: {error}") from None
    if model.num_labels != 1:
        raise ModelError(
            f"score.cross_encoder: {config.model!r} has {model.num_labels} outputs, a reranker has one; choose another"
        )
    if config.max_length is not None:
        model.max_length = min(config.max_length, _positions(model))
    return model


def _positions(model: Any) -> int:
    """Most tokens that a model has places for; one without a table of them takes any number."""
    from torch.nn import Embedding

    tables = [
        module
        for name, module in model.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, Embedding)
    ]
    # Roberta's kind counts its places from behind the padding's.
    sizes = [table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1) for table in tables]
    return min([*sizes, sys.maxsize])
