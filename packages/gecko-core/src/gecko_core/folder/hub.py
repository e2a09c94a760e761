"""Publishing a model folder through huggingface_hub."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gecko_core.errors import BackendError, first_line

if TYPE_CHECKING:
    from gecko_core.model import Gecko


def push_to_hub(
    model: Gecko,
    repo_id: str,
    *,
    record: dict[str, Any] | None = None,
    dims: Sequence[int] | None = None,
    private: bool = True,
    message: str = "Gecko model",
) -> str:
    """Saves the model and uploads its folder in one commit; returns the commit's address.

    The repository is made where it does not exist, private unless told otherwise. Who you are is huggingface_hub's
    business (`hf auth login`). Raises `BackendError` with the hub's reason in one line.
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
