"""Model folders: names resolved, layouts read and written, the model card, the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_core.folder.hub import check_model, local_folder, push_to_hub
from gecko_core.folder.names import Resolved, resolve
from gecko_core.lazy import lazy_exports

if TYPE_CHECKING:
    from gecko_core.folder.layout import Layout, read_layout

__all__ = ["Layout", "Resolved", "check_model", "local_folder", "push_to_hub", "read_layout", "resolve"]

__getattr__, __dir__ = lazy_exports(
    __name__, {"Layout": "gecko_core.folder.layout", "read_layout": "gecko_core.folder.layout"}, __all__
)
