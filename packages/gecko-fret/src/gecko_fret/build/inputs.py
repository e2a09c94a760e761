"""What a build reads from this machine beside its corpus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gecko_core.errors import DataError, ModelError
from gecko_core.folder import resolve
from gecko_core.io import find_data
from gecko_fret.build.needs import models_of
from gecko_fret.config import FretConfig


def input_files(config: FretConfig) -> dict[str, Path]:
    """Files and folders that decide what a build makes: queries, prompts, evaluation sets, models.

    Args:
        config: the build's configuration.

    Returns:
        Paths by the key that names them. What is packaged, of the hub, or not there, is left out.
    """
    found: dict[str, Path] = {}
    for key, path in _files(config):
        try:
            found[key] = find_data(path)
        except DataError:  # whoever reads it says so
            continue
    for key, model in models_of(config):
        try:
            resolved = resolve(model)
        except ModelError:
            continue
        if resolved.path is not None:
            found[key] = resolved.path
    return found


def _files(config: FretConfig) -> Iterator[tuple[str, str]]:
    named = {"generate.examples": config.generate.examples, "generate.log": config.generate.log}
    named |= {f"mine.decontaminate.{number}": path for number, path in enumerate(config.mine.decontaminate)}
    yield from ((key, path) for key, path in named.items() if path)
    prompts = {
        "generate.prompt": config.generate.prompt,
        "score.prompt": config.score.prompt,
        "score.yes_no.prompt": config.score.yes_no.prompt,
        "score.listwise.prompt": config.score.listwise.prompt,
        "enrich.prompt": config.enrich.prompt,
    }
    yield from ((key, name) for key, name in prompts.items() if name and Path(name).is_file())
