"""Models from and to the hub, through huggingface_hub."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gecko_core.errors import BackendError, ModelError, first_line
from gecko_core.folder.names import Resolved, resolve

if TYPE_CHECKING:
    from gecko_core.model import Gecko

# What a model needs from the hub: weights as safetensors, configuration and tokenizer. Pickles are never fetched.
HUB_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "README.md"]
HUB_IGNORE = ["onnx/*", "openvino/*", "*.onnx", "*.bin", "*.pt", "*.pkl"]


def local_folder(resolved: Resolved) -> Path:
    """Return the folder with the model's files, fetched from the hub (or its cache) where it is not on this machine.

    Raises:
        ModelError: the hub does not have it or cannot be reached.
    """
    if resolved.path is not None:
        return resolved.path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    assert resolved.hub_id is not None
    try:
        return Path(snapshot_download(resolved.hub_id, allow_patterns=HUB_PATTERNS, ignore_patterns=HUB_IGNORE))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = first_line(error)
        raise ModelError(
            f"{resolved.name}: not a folder here, and the hub did not give it ({reason}); check the name or the network"
        ) from None


def check_model(name: str | Path, device: str | None = None) -> None:
    """Make sure that a model is at hand for later, as far as that can be told without loading it.

    Files of the hub are fetched, so that hours of other work do not end at a wrong name or a lost network.

    Args:
        name: as for ``resolve``.
        device: that it will be loaded to; None: whatever there is.

    Raises:
        ModelError: the name resolves nowhere, or the hub does not give its files.
        ConfigError: not a device, or not one of this machine's.
    """
    local_folder(resolve(name))
    if device is not None:
        from gecko_core.devices import checked_device

        checked_device(device)


def push_to_hub(
    model: Gecko,
    repo_id: str,
    *,
    record: dict[str, Any] | None = None,
    dims: Sequence[int] | None = None,
    private: bool = True,
    message: str = "Gecko model",
) -> str:
    """Save the model and upload its folder in one commit.

    huggingface_hub knows who you are (``hf auth login``).

    Args:
        model: the model.
        repo_id: "org/name"; created where it does not exist.
        record: see ``Gecko.save_pretrained``.
        dims: see ``Gecko.save_pretrained``.
        private: whether a new repository is private.
        message: of the commit.

    Returns:
        The commit's address.

    Raises:
        BackendError: the hub's reason in one line.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi()
    with tempfile.TemporaryDirectory() as scratch:
        folder = model.save_pretrained(Path(scratch) / "model", record=record, dims=dims)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
        except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
            raise BackendError(
                f"{repo_id}: the hub refused ({first_line(error)}); check the name and your login"
            ) from None
    return str(commit)
