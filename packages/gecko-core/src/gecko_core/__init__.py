"""Gecko text embeddings: prompts, backbones, encoding, and model folders that every server reads.

    from gecko_core import Gecko
    model = Gecko.from_pretrained("all-minilm-l6-v2")
    vectors = model.encode_documents(["The tokay is a gecko."], titles=["Tokay"])

`import gecko_core` itself loads neither torch nor transformers: `Gecko` is fetched when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gecko_core.prompts import TASKS, Task, format_document, format_query

if TYPE_CHECKING:
    from gecko_core.model import Gecko

__version__ = "0.1.0"
__all__ = ["TASKS", "Gecko", "Task", "__version__", "format_document", "format_query"]


def __getattr__(name: str) -> Any:
    if name == "Gecko":
        from gecko_core.model import Gecko

        return Gecko
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
