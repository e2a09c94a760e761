"""Settings that a configuration gives a value of its own and that change nothing beside its others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel

from gecko_fret.config import FretConfig

#: Keys, separated by spaces; whether nothing reads them; and why.
_RULES: list[tuple[str, Callable[[FretConfig], bool], str]] = [
    ("corpus.near_threshold", lambda c: c.corpus.deduplicate != "near", "corpus.deduplicate is not near"),
    ("generate.plausible", lambda c: not c.generate.contrast, "generate.contrast is 0"),
    (
        "generate.examples_shown generate.examples_instruction",
        lambda c: c.generate.examples is None,
        "generate.examples names no file",
    ),
    (
        "generate.user_task",
        lambda c: c.generate.examples is None and c.generate.log is None,
        "neither generate.examples nor generate.log names a file",
    ),
    ("retrieve.hnsw_above", lambda c: c.retrieve.search != "auto", "retrieve.search is not auto"),
    ("retrieve.hnsw_repeatable", lambda c: c.retrieve.search == "exact", "retrieve.search is exact"),
    ("enrich", lambda c: c.enrich.prompt is None, "enrich.prompt names no prompt"),
    ("score.bm25", lambda c: not (_judged_by(c, "bm25") or c.retrieve.bm25), "bm25 is not in score.judges"),
    *(
        (
            f"score.{judge.replace('-', '_')}",
            lambda c, judge=judge: not _judged_by(c, judge),
            f"{judge} is not in score.judges",
        )
        for judge in ("yes-no", "embedder", "cross-encoder", "listwise")
    ),
    (
        "measure score.skip_useless mine.min_probability mine.max_probability mine.seed_rank mine.unanswered",
        lambda c: c.mine.fuse == "rrf",
        "mine.fuse is rrf",
    ),
    ("mine.rrf_k", lambda c: c.mine.fuse == "calibrated", "mine.fuse is calibrated"),
    ("mine.negatives", lambda c: c.mine.negative == "none", "mine.negative is none"),
]


def idle_settings(config: FretConfig) -> list[str]:
    """One line for every setting that was changed from its default and has no effect.

    Args:
        config: the configuration of a build, as it was checked.
    """
    default = FretConfig()
    return [
        f"{key} has no effect: {why}"
        for keys, idle, why in _RULES
        if idle(config)
        for key in _changed(keys, config, default)
    ]


def _judged_by(config: FretConfig, judge: str) -> bool:
    return judge in (config.score.judges or ())


def _changed(keys: str, config: FretConfig, default: FretConfig) -> Iterator[str]:
    """The keys, or those of the sections, whose values differ."""
    for key in keys.split():
        value, usual = _value(config, key), _value(default, key)
        if isinstance(value, BaseModel):
            yield from _changed(" ".join(f"{key}.{name}" for name in type(value).model_fields), config, default)
        elif value != usual:
            yield key


def _value(config: FretConfig, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value
