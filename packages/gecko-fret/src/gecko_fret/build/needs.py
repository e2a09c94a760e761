"""What a build will need in hours: its settings, libraries, models and devices, looked at before its first part."""

from __future__ import annotations

from collections.abc import Iterator

from gecko_core.errors import ConfigError, ModelError
from gecko_core.folder import check_model
from gecko_fret.build.fingerprints import check_config
from gecko_fret.build.served import asked_llms
from gecko_fret.config import FretConfig
from gecko_fret.judges import JUDGES
from gecko_fret.llm import LOCAL
from gecko_fret.models import Models


def check_fret(config: FretConfig) -> None:
    """Check whatever a build would stop at later, as far as that can be told without a corpus and without loading.

    Models of the hub are fetched, the LLM of a local backend among them.

    Raises:
        ConfigError: a setting that cannot be met, or a device that this machine has not.
        ModelError: a model or a library that is not there.
    """
    check_config(config)
    for key, model, device in (*_llms(config, None), *_loaded_later(config, None)):
        _check(key, model, device)


def models_of(config: FretConfig) -> Iterator[tuple[str, str]]:
    """Keys and names of the models that a build runs itself."""
    for key, model, _ in (*_llms(config, None), *_loaded_later(config, None)):
        yield key, model


def check_llms(config: FretConfig, models: Models | None = None) -> None:
    """Make sure that the LLMs are there which a build asks and runs itself, before their weights are looked at.

    Devices do not matter yet: a build that is finished may be looked at on any machine.

    Raises:
        ModelError: one is not there, and the hub does not give it.
    """
    for key, model, _ in _llms(config, models):
        _check(key, model, None)


def check_models(config: FretConfig, models: Models | None = None) -> None:
    """Check the embedder and the judges' own models, which a build loads when its LLM has written all queries.

    Args:
        config: the build's configuration.
        models: the build's models; a ready-made embedder needs no check.

    Raises:
        ConfigError: a device that this machine has not.
        ModelError: a model that is not there, and that the hub does not give.
    """
    for key, model, device in _loaded_later(config, models):
        _check(key, model, device)


def _llms(config: FretConfig, models: Models | None) -> Iterator[tuple[str, str, str | None]]:
    keys = {"llm": config.llm} | {f"generators.{number}": llm for number, llm in enumerate(config.generators)}
    for asked in asked_llms(config):
        if asked.backend in LOCAL and not (models and models.has_llm(asked)):
            yield next(key for key, llm in keys.items() if llm == asked), asked.model, asked.device


def _loaded_later(config: FretConfig, models: Models | None) -> Iterator[tuple[str, str, str | None]]:
    if models is None or not models.has_embedder:
        yield "embedder", config.embedder.model, config.embedder.device
    for name in config.score.all_judges:
        own = JUDGES[name].own_model(config) if name in JUDGES else None
        if own is not None:
            yield own


def _check(key: str, model: str, device: str | None) -> None:
    try:
        check_model(model, device)
    except (ConfigError, ModelError) as error:
        raise type(error)(f"{key}: {error}") from None
