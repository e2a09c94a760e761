import pytest

from gecko_core.errors import ModelError
from gecko_fret.config import EmbedderConfig
from gecko_fret.llm import is_served
from gecko_fret.llm.config import LLMConfig
from gecko_fret.models import Models, llm_settings


def test_given_models_are_used_and_left_open(fake_llm, fake_embedder):
    llm, embedder = fake_llm(), fake_embedder()
    models = Models(llms={"fake": llm}, embedder=embedder)
    assert models.llm(LLMConfig(model="fake")) is llm
    assert models.embedder(EmbedderConfig()) is embedder
    assert models.llm_fingerprint(LLMConfig(model="fake")) == "fake:1"
    models.close()
    assert llm.closed == 0


def test_fingerprints_tell_backends_and_types_apart(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path)
    name = str(tmp_path)
    fingerprints = {
        Models().llm_fingerprint(LLMConfig(model=name)),
        Models().llm_fingerprint(LLMConfig(model=name, dtype="float32")),
        Models().llm_fingerprint(LLMConfig(model=name, backend="vllm")),
        Models().llm_fingerprint(LLMConfig(model=name, backend="openai", url="http://h/v1")),
    }
    assert len(fingerprints) == 4


def test_llms_are_loaded_once(tmp_path, tiny_model, word_tokenizer):
    tiny_model.save_pretrained(tmp_path)
    word_tokenizer.save_pretrained(tmp_path)
    models = Models()
    first = models.llm(LLMConfig(model=str(tmp_path), dtype="float32"))
    assert models.llm(LLMConfig(model=str(tmp_path), dtype="float32", weight=3)) is first
    assert first.truncate(["a cat sat"], 3) == ["a cat"]
    models.close()


def test_settings_of_a_server_that_decide_no_answer_are_in_no_fingerprint():
    old = LLMConfig(backend="openai", model="m", url="http://h/v1")
    assert set(llm_settings(old)) == {"backend", "model", "dtype", "tokenizer", "send_seed"}
    same = {
        "budget_tokens": 5,
        "requests_per_minute": 3,
        "api_key_file": "k",
        "api": "completions",
        "max_tokens_key": "m",
    }
    assert llm_settings(old.model_copy(update=same)) == llm_settings(old)
    for key, value in {
        "api": "chat",
        "samples": 3,
        "extra_body": {"a": 1},
        "omit": ["seed"],
        "thinking_tokens": 9,
    }.items():
        assert llm_settings(old.model_copy(update={key: value}))[key] == value


def test_what_an_llm_is_asks_no_server():
    """Up to Python 3.11 isinstance with a protocol reads its properties."""

    class Served:
        fingerprint = name = usage = None
        truncate = generate = score = close = recall = record = charge = interrupt = None

        @property
        def capabilities(self):
            raise AssertionError("the server was asked")

    assert is_served(Served())
    assert not is_served(object())


def test_a_backend_that_reads_no_folder_names_its_model_as_it_likes(monkeypatch):
    monkeypatch.setattr("gecko_fret.models.llm_fingerprint", lambda config: f"{config.backend}:{config.model}")
    models = Models()
    with models.asking() as asked:
        config = LLMConfig(model="my words").model_copy(update={"backend": "first-words"})
        assert models.llm_fingerprint(config) == "first-words:my words"
    assert asked.models == asked.tokenizers == []
    with models.asking() as asked, pytest.raises(ModelError, match="no such folder"):
        models.llm_fingerprint(LLMConfig(model="my words"))


def test_sections_that_ask_one_server_are_added_up(server):
    pytest.importorskip("openai")
    given = {"backend": "openai", "model": "tiny", "url": server.url, "usd_per_million_read": 1.0}
    writer, judge = LLMConfig(**given, samples=3), LLMConfig(**given)
    name, models = f"tiny at {server.url} (auto)", Models()
    models.recall({name: {"spent": {"prompt_tokens": 10, "generated_tokens": 1}}})
    for config, spent in ((writer, 100), (judge, 1000)):
        models.llm(config).charge(spent, 0)
    assert models.spent() == {name: (1110, 1)}  # what an earlier run spent counts once
    assert models.records()[name]["usd"] == pytest.approx(1110e-6)
    models.charge({name: (5, 5)})
    assert models.spent() == {name: (1115, 6)}
    models.close()
