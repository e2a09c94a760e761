"""The model folder: writing the layout that every reader agrees on, and reading sentence-transformers folders.

What is written is the *legacy* sentence-transformers schema, which sentence-transformers 3.4 to the newest,
`AutoModel`, text-embeddings-inference and vLLM all read; `gecko.json` is ours and ignored by the others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gecko_core.errors import ModelError
from gecko_core.prompts import format_document, format_query

# transformers 5 saves every fast tokenizer as "TokenizersBackend", which transformers 4 does not know.
_TOKENIZER_CLASSES = {
    "bert": "BertTokenizerFast",
    "roberta": "RobertaTokenizerFast",
    "xlm-roberta": "XLMRobertaTokenizerFast",
    "mpnet": "MPNetTokenizerFast",
    "distilbert": "DistilBertTokenizerFast",
    "t5": "T5TokenizerFast",
}
_QUERY_MARK = "\0"


@dataclass
class FolderConfig:
    """What a folder says beside the weights."""

    max_seq_length: int
    dims: tuple[int, ...] | None = None
    prompt_style: str = "plain"
    record: dict[str, Any] = field(default_factory=dict)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}); cure: copy the model folder again") from None


def read_folder(path: Path) -> FolderConfig:
    """Settings of a model folder: ours, or any sentence-transformers folder with mean pooling, old schema or new."""
    modules = path / "modules.json"
    pooling_folder = path / "1_Pooling"
    if modules.exists():
        for module in read_json(modules):
            kind = str(module["type"]).rsplit(".", 1)[-1]
            if kind == "Pooling":
                pooling_folder = path / module["path"]
            elif kind not in ("Transformer", "Normalize"):
                raise ModelError(f"{modules}: module {kind} is not supported; cure: use a mean-pooling model")
    if (pooling_folder / "config.json").exists():
        _check_pooling(pooling_folder / "config.json")
    length = 512
    sentence = path / "sentence_bert_config.json"
    if sentence.exists():
        length = int(read_json(sentence).get("max_seq_length") or length)
    config = FolderConfig(max_seq_length=length)
    if (path / "gecko.json").exists():
        ours = read_json(path / "gecko.json")
        config.dims = tuple(ours["dims"])
        config.prompt_style = ours["prompt_style"]
        config.max_seq_length = ours["max_seq_length"]
        config.record = ours.get("record", {})
    return config


def _check_pooling(path: Path) -> None:
    config = read_json(path)
    mode = config.get("pooling_mode")
    if mode is None:
        on = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
        mode = "mean" if on == ["pooling_mode_mean_tokens"] else ", ".join(on)
    if mode != "mean":
        raise ModelError(f"{path}: pooling '{mode}' is not supported; cure: use a model with mean pooling")


def write_folder(path: Path, *, config: Any, tokenizer: Any, dims: tuple[int, ...], settings: FolderConfig) -> None:
    """Everything but the weights. `config` is the backbone's transformers config."""
    tokenizer.save_pretrained(path)
    _rename_tokenizer_class(path / "tokenizer_config.json", config.model_type, tokenizer)
    hf_config = read_json(path / "config.json")
    hf_config |= {"is_matryoshka": len(dims) > 1, "matryoshka_dimensions": list(dims)}
    _write(path / "config.json", hf_config)
    prefix = "sentence_transformers.models"
    names = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    _write(
        path / "modules.json",
        [{"idx": i, "name": str(i), "path": p, "type": f"{prefix}.{kind}"} for i, (p, kind) in enumerate(names)],
    )
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    _write(
        path / "1_Pooling" / "config.json",
        {"word_embedding_dimension": dims[0]}
        | {f"pooling_mode_{mode}": mode == "mean_tokens" for mode in modes}
        | {"include_prompt": True},
    )
    (path / "2_Normalize").mkdir(exist_ok=True)
    _write(
        path / "sentence_bert_config.json",
        {"max_seq_length": settings.max_seq_length, "do_lower_case": False},
    )
    _write(
        path / "config_sentence_transformers.json",
        {
            "model_type": "SentenceTransformer",
            "prompts": prompts(settings.prompt_style),
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )
    ours = {
        "format": 1,
        "dims": list(dims),
        "prompt_style": settings.prompt_style,
        "max_seq_length": settings.max_seq_length,
        "record": settings.record,
    }
    _write(path / "gecko.json", ours)
    (path / "README.md").write_text(model_card(dims, settings), encoding="utf-8")


def prompts(style: str) -> dict[str, str]:
    """Prefixes under the names that sentence-transformers and mteb look up."""
    if style != "gecko":
        return {"query": "", "document": ""}

    def before(task: str) -> str:
        return format_query(_QUERY_MARK, task).split(_QUERY_MARK)[0]

    document = format_document(_QUERY_MARK).split(_QUERY_MARK)[0]
    same = "semantic similarity"
    return {
        "query": before("search result"),
        "document": document,
        "Retrieval-query": before("search result"),
        "Retrieval-document": document,
        "Reranking-query": before("question answering"),
        "Reranking-document": document,
        "Classification": before("classification"),
        "MultilabelClassification": before("classification"),
        "Clustering": before("search result"),
        "PairClassification": before(same),
        "STS": before(same),
        "Summarization": before("search result"),
        "BitextMining": before(same),
    }


def model_card(dims: tuple[int, ...], settings: FolderConfig) -> str:
    """A short card: what it is, how to use it, how it was made."""
    lines = [
        "---",
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
        "tags: [gecko, sentence-transformers, feature-extraction]",
        "---",
        "",
        "# A Gecko embedding model",
        "",
        f"Cosine similarity, mean pooling, {dims[0]} dimensions"
        + (f" (prefixes: {', '.join(map(str, dims[1:]))})." if len(dims) > 1 else "."),
        "",
        "    from gecko_core import Gecko",
        '    model = Gecko.from_pretrained("THIS FOLDER")',
        '    model.similarity(model.encode_queries(["a question"]), model.encode_documents(["a passage"]))',
        "",
        "## Training record",
        "",
        "```json",
        json.dumps(settings.record, indent=2, ensure_ascii=False),
        "```",
        "",
    ]
    return "\n".join(lines)


def _rename_tokenizer_class(path: Path, model_type: str, tokenizer: Any) -> None:
    saved = read_json(path)
    if saved.get("tokenizer_class") in (None, "TokenizersBackend"):
        saved["tokenizer_class"] = _TOKENIZER_CLASSES.get(model_type, "PreTrainedTokenizerFast")
    elif model_type in _TOKENIZER_CLASSES:
        saved["tokenizer_class"] = _TOKENIZER_CLASSES[model_type]
    _write(path, saved)


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
