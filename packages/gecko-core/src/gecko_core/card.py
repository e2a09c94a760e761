"""The model card: what the folder is, how to use it, how it was made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gecko_core.model import Gecko


def model_card(model: Gecko, record: dict[str, Any] | None, dims: tuple[int, ...]) -> str:
    """README.md of a saved model."""
    record_text = json.dumps(record, indent=2, ensure_ascii=False, default=str) if record else None
    lines = [
        "---",
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
        "tags: [sentence-transformers, feature-extraction, gecko]",
        "---",
        "",
        "# A Gecko text embedding model",
        "",
        f"{dims[0]}-dimensional text embeddings, mean-pooled; at most {model.max_seq_length} tokens per text.",
    ]
    if record_text:
        lines += ["", "## How it was made", "", "```json", record_text, "```"]
    return "\n".join(lines) + "\n"
