"""Evaluation through mteb: tasks, prompts, the encoder, runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_core.lazy import lazy_exports

if TYPE_CHECKING:
    from gecko_eval.mteb.encoder import GeckoEmbedder, TextEmbedder, make_encoders
    from gecko_eval.mteb.entries import Entry, entries_for
    from gecko_eval.mteb.local import discover, local_set
    from gecko_eval.mteb.run import run_tasks
    from gecko_eval.mteb.tasks import TaskPrompt, task_prompt

__all__ = [
    "Entry",
    "GeckoEmbedder",
    "TaskPrompt",
    "TextEmbedder",
    "discover",
    "entries_for",
    "local_set",
    "make_encoders",
    "run_tasks",
    "task_prompt",
]

# Imported on first use: mteb takes seconds to import.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Entry": "gecko_eval.mteb.entries",
        "GeckoEmbedder": "gecko_eval.mteb.encoder",
        "TaskPrompt": "gecko_eval.mteb.tasks",
        "TextEmbedder": "gecko_eval.mteb.encoder",
        "discover": "gecko_eval.mteb.local",
        "entries_for": "gecko_eval.mteb.entries",
        "local_set": "gecko_eval.mteb.local",
        "make_encoders": "gecko_eval.mteb.encoder",
        "run_tasks": "gecko_eval.mteb.run",
        "task_prompt": "gecko_eval.mteb.tasks",
    },
)
