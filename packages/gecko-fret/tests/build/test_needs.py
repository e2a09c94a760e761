import pytest

from gecko_core.errors import ConfigError, ModelError
from gecko_fret import build_fret, check_fret
from gecko_fret.build.needs import check_models
from gecko_fret.config import parse_config
from gecko_fret.models import Models

LLM = {"llm": {"backend": "openai", "model": "x", "url": "http://127.0.0.1:9"}}
MISSING = [
    (
        {"embedder": {"model": "no-such/embedder"}},
        ModelError,
        "embedder: no-such/embedder: not a folder",
    ),
    ({"embedder": {"model": "no-such"}}, ModelError, "embedder: "),
    ({"embedder": {"device": "cuda:7"}}, ConfigError, "embedder: cuda:7: this machine has"),
    ({"embedder": {"device": "gpu"}}, ConfigError, "embedder: 'gpu' is not a device"),
    (
        {"score": {"judges": ["ql", "embedder"], "embedder": {"model": "no-such/judge"}}},
        ModelError,
        "score.embedder: no-such/judge",
    ),
    (
        {"score": {"judges": ["ql", "embedder"], "embedder": {"model": "all-minilm-l6-v2", "device": "cuda:7"}}},
        ConfigError,
        "score.embedder: cuda:7",
    ),
]


@pytest.mark.parametrize(("settings", "error", "message"), MISSING)
def test_what_is_loaded_later_is_missed_before(settings, error, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(error) as caught:
        check_fret(parse_config({**LLM, **settings}))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_llm_of_a_local_backend_is_looked_for(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="llm: no-such/llm"):
        check_fret(parse_config({"llm": {"model": "no-such/llm"}}))
    generators = [{"model": "smollm2-135m-instruct"}, {"model": "no-such/writer"}]
    with pytest.raises(ModelError, match=r"generators\.1: no-such/writer"):
        check_fret(parse_config({"generators": generators}))
    check_fret(parse_config({}))


def test_a_build_stops_before_its_llm_writes(small_corpus, fake_llm, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    wanted = parse_config({"llm": {"model": "fake"}, **MISSING[0][0]})
    with pytest.raises(ModelError, match="embedder: no-such"):
        build_fret(wanted, tmp_path / "out", corpus=small_corpus, models=Models({"fake": fake_llm()}))
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_an_llm_that_nothing_asks_is_not_looked_for(corpus, fake_embedder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = {
        "llm": {"model": "no-such/llm"},
        "generators": [{"model": "no-such/writer"}],
        "generate": {"sources": ["titles"]},
        "score": {"judges": ["similarity"]},
        "measure": {"items": 12},
    }
    summary = build_fret(
        parse_config(settings), tmp_path / "out", corpus=corpus, models=Models(embedder=fake_embedder())
    )
    assert summary.complete
    report = (tmp_path / "out" / "report.md").read_text()
    assert "no-such" not in report
    assert "embedder" in report
    asked = [{"score": {"judges": ["similarity", "ql"]}}, {"enrich": {"prompt": "enrich-context"}}]
    for number, change in enumerate(asked):
        with pytest.raises(ModelError, match="llm: no-such/llm"):
            build_fret(
                parse_config({**settings, **change}), tmp_path / f"{number}", corpus=corpus,
                models=Models(embedder=fake_embedder()),
            )  # fmt: skip


def test_a_ready_made_embedder_needs_no_check(fake_embedder):
    wanted = parse_config({"embedder": {"model": "no-such/embedder", "device": "cuda:7"}})
    check_models(wanted, Models(embedder=fake_embedder()))
