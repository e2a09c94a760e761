"""Fingerprints of the steps: which parts of a folder a configuration would write again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from textwrap import shorten
from typing import Any

from gecko_fret.config import FretConfig
from gecko_fret.models import LLM_SPEED
from gecko_fret.steps import STEPS, BuildContext, Step


def fingerprints(build: BuildContext) -> dict[str, str]:
    """A hash per step over everything that its output depends on, earlier steps included.

    Two builds with the same fingerprint of a step write the same parts for it.
    """
    digests: dict[str, str] = {}
    for step in STEPS:
        upstream = [digests[earlier.name] for earlier in step.depends_on(build.config)]
        digests[step.name] = _digest([step.name, step.fingerprint(build), upstream])
    return digests


def model_contents(build: BuildContext) -> dict[str, tuple[str, str]]:
    """Hashes per step over the files of the models that it uses, tokenizers and settings included.

    The fingerprints of version 0.1 know a model by the beginning and the end of its weights, and must stay as they are.

    Returns:
        The hash of each step, and the one that a folder has that was begun when a server's tokenizer
        (``llm.tokenizer``) was known by its name alone.
    """
    contents: dict[str, tuple[str, str]] = {}
    for step in STEPS:
        with build.models.asking() as asked:
            step.fingerprint(build)
        earlier = _digest(asked.models)
        contents[step.name] = (_digest([asked.models, asked.tokenizers]) if asked.tokenizers else earlier, earlier)
    return contents


def prompt_hashes(config: FretConfig) -> dict[str, str]:
    """Hashes of the prompt files, by the section that names them."""
    hashes: dict[str, str] = {}
    for step in STEPS:
        hashes |= step.prompt_hashes(config)
    return hashes


def check_config(config: FretConfig) -> None:
    """Check that every step can do what the configuration asks for, before anything is built.

    Raises:
        ConfigError: one line: the key, what is wrong.
    """
    for step in STEPS:
        step.check(config)


def compare_steps(
    config: FretConfig,
    previous: Mapping[str, Mapping[str, Any]],
    wanted: Mapping[str, str],
    contents: Mapping[str, tuple[str, str]],
) -> tuple[dict[str, dict[str, Any]], list[Step[Any]]]:
    """The manifest's record of every step, and the steps whose fingerprint, or a model of theirs, is not the folder's.

    Args:
        config: the build's configuration.
        previous: the records that the folder has; those of version 0.1 say nothing of the models' contents.
        wanted: fingerprints of the steps.
        contents: of the models that the steps use, see :func:`model_contents`.
    """
    stages: dict[str, dict[str, Any]] = {}
    changed: list[Step[Any]] = []
    for step in STEPS:
        record = dict(previous.get(step.name, {}))
        content, earlier = contents[step.name]
        same = record.get("models", content) in (content, earlier)
        upstream_changed = any(earlier in changed for earlier in step.depends_on(config))
        if record.get("fingerprint") != wanted[step.name] or not same or upstream_changed:
            record = {"fingerprint": wanted[step.name], "done": False, "seconds": 0.0}
            changed.append(step)
        stages[step.name] = {**record, "models": content}
    return stages, changed


def changed_settings(before: Mapping[str, Any], now: FretConfig) -> str:
    """In parentheses, the settings that a folder was built with and that are others now; three of them at most.

    Where there are none, the content of a file has changed, or a model.

    Args:
        before: the configuration in the folder's manifest.
        now: the configuration.
    """
    was, there = dict(_leaves("", before)), dict(_leaves("", now.model_dump(mode="json")))
    changed = [key for key in there if key in was and was[key] != there[key]]
    if not changed:
        return " (no value of them, but a file or a model that they name)"
    more = "; and others" if len(changed) > 3 else ""
    return f" ({'; '.join(f'{key} was {_short(was[key])}' for key in changed[:3])}{more})"


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Values that are no mappings by their keys, such as ``llm.model``, but for those that decide speed alone."""
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name, inner in value.items():
        if key != "llm" or name not in LLM_SPEED:
            yield from _leaves(f"{key}.{name}" if key else name, inner)


def _short(value: Any) -> str:
    return shorten(json.dumps(value, ensure_ascii=False), 60, placeholder="...")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]
