"""Settings of well-known servers by name, in ``presets/NAME.yaml``."""

from __future__ import annotations

from importlib import resources
from typing import Any

from gecko_core.io import read_yaml

_FOLDER = "presets"


def preset_names() -> list[str]:
    """The names, in alphabetical order."""
    folder = resources.files("gecko_fret") / _FOLDER
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))


def load_preset(name: str) -> dict[str, Any]:
    """Keys and values of section ``llm`` for a server.

    Raises:
        ValueError: there is no such preset.
    """
    if name not in preset_names():
        raise ValueError(f"{name!r} is no preset; there are {', '.join(preset_names())}")
    with resources.as_file(resources.files("gecko_fret") / _FOLDER / f"{name}.yaml") as path:
        return read_yaml(path, "preset")
