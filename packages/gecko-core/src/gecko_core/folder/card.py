"""The model card: what the folder is, how to use it, how it was made, what it scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from gecko_core.io import render

if TYPE_CHECKING:
    from gecko_core.model import Gecko


def model_card(model: Gecko, record: Mapping[str, Any] | None, dims: Sequence[int]) -> str:
    """Return README.md of a saved model.

    Args:
        model: the model.
        record: how it was made, printed as it is but for ``record["scores"]``: a list of {"task", "metric", "value"}
            (optionally "dataset", "dim", "revision") that becomes a table and, in the card's metadata, the
            ``model-index`` that hubs and mteb read.
        dims: the Matryoshka widths to announce.
    """
    record = dict(record or {})
    scores = [dict(score) for score in record.pop("scores", None) or []]
    name = str(record.get("name") or "gecko")
    config: Any = model.backbone.config
    plain_record = json.loads(json.dumps(record, default=str))
    return render(
        "gecko_core.folder",
        "card.md.j2",
        metadata=yaml.safe_dump(_metadata(model, name, scores), sort_keys=False, allow_unicode=True),
        name=name,
        base_model=model.base_model,
        model_type=config.model_type,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        dims=dims,
        max_seq_length=model.max_seq_length,
        weights=model.weights_hash(),
        prompt_style=model.prompt_style,
        scores=[{"dataset": "", "dim": "", **score, "value": float(score["value"])} for score in scores],
        record=yaml.safe_dump(plain_record, sort_keys=False, allow_unicode=True, width=110) if record else "",
    )


def _metadata(model: Gecko, name: str, scores: list[dict[str, Any]]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "feature-extraction", "sentence-similarity", "gecko", "matryoshka"],
    }
    if model.base_model and "/" in model.base_model:
        metadata["base_model"] = model.base_model
    if scores:
        metadata["model-index"] = [{"name": name, "results": [_result(score) for score in scores]}]
    return metadata


def _result(score: dict[str, Any]) -> dict[str, Any]:
    dataset = str(score.get("dataset", score["task"]))
    metric = {"type": str(score["metric"]), "value": float(score["value"])}
    if "dim" in score:
        metric["name"] = f"{score['metric']} at {score['dim']} dimensions"
    return {
        "task": {"type": str(score["task"])},
        "dataset": {"type": dataset, "name": dataset},
        "metrics": [metric],
    }
