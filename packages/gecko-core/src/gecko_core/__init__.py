"""Gecko text embeddings: prompts, backbones, encoding, and model folders that every server reads.

    from gecko_core import Gecko
    model = Gecko.from_pretrained("all-minilm-l6-v2")
    vectors = model.encode_documents(["The tokay is a gecko."], titles=["Tokay"])

``import gecko_core`` itself loads neither torch nor transformers: ``Gecko`` is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_core.lazy import lazy_exports
from gecko_core.prompts import TASKS, Task, format_document, format_query

if TYPE_CHECKING:
    from gecko_core.model import Gecko

__version__ = "1.0.0"
__all__ = ["TASKS", "Gecko", "Task", "__version__", "format_document", "format_query"]

__getattr__, __dir__ = lazy_exports(__name__, {"Gecko": "gecko_core.model"}, __all__)
