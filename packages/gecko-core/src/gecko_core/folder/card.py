"""The model card: what the folder is, how to use it, how it was made, what it scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from gecko_core.model import Gecko


def model_card(model: Gecko, record: Mapping[str, Any] | None, dims: Sequence[int]) -> str:
    """README.md of a saved model.

    record["scores"], where given, is a list of {"task", "metric", "value"} (optionally "dataset", "dim", "revision"):
    it becomes a table and, in the card's metadata, the `model-index` that hubs and mteb read. The rest of the record is
    printed as it is.
    """
    record = dict(record or {})
    scores = [dict(score) for score in record.pop("scores", None) or []]
    name = str(record.get("name") or "gecko")
    parts = [
        "---\n" + yaml.safe_dump(_metadata(model, name, scores), sort_keys=False, allow_unicode=True) + "---",
        f"# {name}",
        _summary(model, dims),
        _usage(model, dims),
        *([_score_table(scores)] if scores else []),
        *([_record_section(record)] if record else []),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(model: Gecko, name: str, scores: list[dict[str, Any]]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "feature-extraction", "sentence-similarity", "gecko", "matryoshka"],
    }
    if model.base_model and "/" in model.base_model:
        metadata["base_model"] = model.base_model
    if scores:
        results = []
        for score in scores:
            dataset = str(score.get("dataset", score["task"]))
            metric = {"type": str(score["metric"]), "value": float(score["value"])}
            if "dim" in score:
                metric["name"] = f"{score['metric']} at {score['dim']} dimensions"
            results.append(
                {
                    "task": {"type": str(score["task"])},
                    "dataset": {"type": dataset, "name": dataset},
                    "metrics": [metric],
                }
            )
        metadata["model-index"] = [{"name": name, "results": results}]
    return metadata


def _summary(model: Gecko, dims: Sequence[int]) -> str:
    start = f" Started from {model.base_model}." if model.base_model else ""
    config: Any = model.backbone.config
    rows = [
        ("Backbone", f"{config.model_type}, {sum(p.numel() for p in model.parameters()) / 1e6:.1f}M parameters"),
        ("Embedding", f"{dims[0]} dimensions, mean of the tokens, cosine similarity"),
        ("Matryoshka", "also at " + ", ".join(map(str, dims[1:])) + " dimensions" if len(dims) > 1 else "no"),
        ("Longest text", f"{model.max_seq_length} tokens; the rest is cut off"),
        ("Weights", f"`{model.weights_hash()[:16]}` (sha256)"),
    ]
    table = "\n".join(f"| {what} | {value} |" for what, value in rows)
    return f"A text embedding model in the layout of sentence-transformers.{start}\n\n| | |\n|---|---|\n{table}"


def _usage(model: Gecko, dims: Sequence[int]) -> str:
    text = (
        "## Use\n\n```python\nfrom gecko_core import Gecko\n\n"
        'model = Gecko.from_pretrained("PATH")\n'
        'queries = model.encode_queries(["how do geckos walk on ceilings"], task="search result")\n'
        'documents = model.encode_documents(["Setae on their toe pads."], titles=["Adhesion"])\n```\n\n'
    )
    text += (
        "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        'model = SentenceTransformer("PATH")\n'
        'queries = model.encode(["how do geckos walk on ceilings"], prompt_name="query")\n'
        'documents = model.encode(["Setae on their toe pads."], prompt_name="document")\n```'
    )
    if model.prompt_style == "gecko":
        text += (
            "\n\nQueries, and both sides of symmetric tasks, read `task: {task} | query: {text}`; documents read "
            "`title: {title} | text: {text}`, with `none` where there is no title. Leaving them out costs quality."
        )
    if len(dims) > 1:
        text += f"\n\nShorter vectors: keep the first {' or '.join(map(str, dims[1:]))} components and normalise again."
    return text


def _score_table(scores: list[dict[str, Any]]) -> str:
    lines = ["## Scores", "", "| task | data set | dimensions | metric | value |", "|---|---|---:|---|---:|"]
    for score in scores:
        where, dim = score.get("dataset", ""), score.get("dim", "")
        lines.append(f"| {score['task']} | {where} | {dim} | {score['metric']} | {float(score['value']):.4f} |")
    return "\n".join(lines)


def _record_section(record: Mapping[str, Any]) -> str:
    body = yaml.safe_dump(json.loads(json.dumps(record, default=str)), sort_keys=False, allow_unicode=True, width=110)
    return f"## How it was made\n\n```yaml\n{body}```"
