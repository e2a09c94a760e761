"""Tiny real things: a BERT of a few thousand weights with its own tokenizer, a corpus, rows."""

from __future__ import annotations

import json
import multiprocessing
import random
import runpy
from pathlib import Path

import pytest

from gecko_train.data.rows import Document, RowSet, TrainingRow

WORDS = [
    first + last for first in ("ba", "do", "ke", "li", "mu", "pra", "so", "ti") for last in ("nk", "rt", "ll", "ms")
]


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory):
    """Folder of a random BERT (2 layers, 32 wide, with dropout) and a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("backbone")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    extra = ["task", "query", "title", "text", "none", ":", "|", "search", "result", "the", "of", "a"]
    vocabulary = {word: number for number, word in enumerate([*special, *extra, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=64,
    )  # fmt: skip
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_model(tiny_backbone):
    """A fresh Gecko on the tiny backbone, on the CPU in fp32."""
    import torch

    from gecko_core import Gecko

    return Gecko.from_backbone(tiny_backbone, dims=(32, 16), device="cpu", dtype=torch.float32)


@pytest.fixture(scope="session")
def language_model(tmp_path_factory):
    """Factory of folders: language_model(tied=True) -> a random Llama with its head and a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    made = {}

    def make(tied=True):
        if tied in made:
            return made[tied]
        folder = tmp_path_factory.mktemp("language-model") / ("tied" if tied else "untied")
        words = ["<unk>", "<pad>", "<s>", "</s>", "_", *"abcdefghijklmnop"]
        core = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
        core.normalizer, core.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.WhitespaceSplit()
        PreTrainedTokenizerFast(
            tokenizer_object=core, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>"
        ).save_pretrained(folder)
        config = LlamaConfig(
            vocab_size=24, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64, pad_token_id=1, bos_token_id=2, eos_token_id=3,
            tie_word_embeddings=tied,
        )  # fmt: skip
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
        made[tied] = folder
        return folder

    return make


@pytest.fixture
def bidirectional(language_model):
    """A fresh Gecko on it, on the CPU in fp32."""
    import torch

    from gecko_core import Gecko

    return Gecko.from_backbone(language_model(), dims=(32,), device="cpu", dtype=torch.float32)


def without_dropout(model):
    for module in model.modules():
        if type(module).__name__ == "Dropout":
            module.p = 0.0
        for name in ("dropout_prob", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


@pytest.fixture(name="without_dropout", scope="session")
def _without_dropout():
    return without_dropout


def sentence(generator: random.Random, length: int) -> str:
    return " ".join(generator.choice(WORDS) for _ in range(length))


def make_rows(count: int, negatives: int = 1, seed: int = 0, **fields) -> list[TrainingRow]:
    generator = random.Random(seed)
    return [
        TrainingRow(
            "search result", sentence(generator, generator.randint(2, 6)),
            Document(sentence(generator, generator.randint(5, 25)), sentence(generator, 3)),
            tuple(Document(sentence(generator, generator.randint(5, 25))) for _ in range(negatives)), **fields,
        )
        for _ in range(count)
    ]  # fmt: skip


def make_neighbours(count: int, candidates: int = 8, seed: int = 0) -> list[TrainingRow]:
    """Queries on a ring of passages, each with the next ones as candidates and the logarithms of probabilities."""
    generator = random.Random(seed)
    passages = [Document(sentence(generator, generator.randint(5, 20)), sentence(generator, 2)) for _ in range(count)]
    rows = []
    for place in range(count):
        own = [passages[(place + step) % count] for step in range(candidates)]
        scores = tuple(-0.4 - 0.5 * step + generator.uniform(0, 0.2) for step in range(candidates))
        rows.append(TrainingRow("search result", sentence(generator, 4), own[0], tuple(own[1:]), scores=scores))
    return rows


@pytest.fixture
def neighbours():
    """Factory of queries with shared candidates: neighbours(count, candidates=8, seed=0)."""
    return make_neighbours


@pytest.fixture
def rows():
    """Factory of random rows: rows(count, negatives=1, seed=0)."""
    return make_rows


@pytest.fixture
def row_set():
    """Factory of a random set: row_set(name, count, ...)."""
    return lambda name, count, **options: RowSet.from_rows(name, make_rows(count, **options))


class Formats:
    """The gecko formats, written out again."""

    def format_queries(self, texts, task):
        return [f"task: {task} | query: {text}" for text in texts]

    def format_documents(self, texts, titles):
        return [f"title: {title or 'none'} | text: {text}" for text, title in zip(texts, titles, strict=True)]


@pytest.fixture
def formats():
    """What applies prompts, without a model."""
    return Formats()


@pytest.fixture
def corpus_file(tmp_path):
    """A .jsonl corpus of 60 titled passages."""
    generator = random.Random(1)
    path = tmp_path / "corpus.jsonl"
    lines = [
        {"id": f"p{n}", "title": f"{sentence(generator, 4)} {n}", "text": sentence(generator, 45)} for n in range(60)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="session")
def start_training():
    """Starts tests/train_process.py as a process: start(environment, **arguments) -> Process.

    Forks of one process that has imported torch and transformers once: an import of them takes seconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "gecko_core.model",
            "gecko_train.loop.trainer",
            "accelerate",
            "transformers.models.auto.modeling_auto",
            "transformers.models.auto.tokenization_auto",
            "transformers.models.bert.modeling_bert",
            "matplotlib.backends.backend_agg",
        ]
    )
    script = str(Path(__file__).parent / "train_process.py")

    def start(environment, **arguments):
        given = {"ENVIRONMENT": environment, "ARGUMENTS": arguments}
        process = context.Process(target=runpy.run_path, args=(script, given, "__main__"))
        process.start()
        return process

    return start
