import json
import re
from dataclasses import replace

import pytest

from gecko_core.errors import BackendError, ConfigError
from gecko_core.io import read_json
from gecko_fret.build.fingerprints import _digest
from gecko_fret.build.pipeline import build_fret
from gecko_fret.build.served import check_served, problems, run_llms, way
from gecko_fret.config import parse_config
from gecko_fret.dataset import load_fret
from gecko_fret.judges import JUDGES
from gecko_fret.llm.capabilities import Capabilities
from gecko_fret.models import Models

FULL = Capabilities("completions", echo=True, alternatives=20, logprobs=True)
CHAT = Capabilities("chat", alternatives=20, logprobs=True)
SERVER = {"backend": "openai", "model": "m", "url": "http://h/v1"}


def config_of(llm=SERVER, **sections):
    return parse_config({"llm": llm, **sections})


@pytest.mark.parametrize(
    ("can", "ways"),
    [
        (
            FULL,
            {
                "ql": "log-probabilities of the prompt",
                "rc": "log-probabilities of every label",
                "listwise": "what it writes",
            },
        ),
        (CHAT, {"ql": None, "yes-no": "the 20 likeliest tokens; labels that are not among them are bounded"}),
        (
            replace(CHAT, alternatives=0),
            {"ql": None, "rc": "counted in 8 sampled answers", "listwise": "what it writes"},
        ),
    ],
)
def test_how_judges_are_asked_depends_on_what_is_shown(can, ways):
    config = config_of()
    assert {name: way(config, config.llm, can, name) for name in ways} == ways
    assert all(way(config, config.llm, can, name) for name in JUDGES if not JUDGES[name].uses_llm)


@pytest.mark.parametrize(
    ("sections", "can", "message"),
    [
        ({}, CHAT, "judge ql needs log-probabilities of the prompt"),
        ({"score": {"judges": ["yes-no"], "mode": "joint"}}, CHAT, "score.mode joint needs"),
        ({"generate": {"keep": "grounded"}, "score": {"judges": ["rc"]}}, CHAT, "generate.keep grounded"),
        (
            {"generate": {"keep": "best"}, "score": {"judges": ["rc"]}},
            replace(CHAT, logprobs=False),
            "generate.keep best",
        ),
        ({"score": {"judges": ["rc"]}}, replace(CHAT, thinks=True), r"thinks before it answers.*llm.thinking_tokens"),
        (
            {"score": {"judges": ["yes-no"], "yes_no": {"prompt": "qwen3-reranker"}}},
            CHAT,
            "yes-no needs a prompt without",
        ),
    ],
)
def test_what_a_server_cannot_do_is_named(sections, can, message):
    config = config_of(**sections)
    found = list(problems(config, config.llm, can))
    assert len(found) == 1
    assert re.search(message, found[0])
    assert not list(problems(config, config.llm, FULL))


def test_over_a_chat_api_the_default_judges_do_without_the_prompt():
    assert config_of(SERVER | {"api": "chat"}).score.judges == ["similarity", "yes-no"]
    assert config_of(SERVER).score.judges == ["similarity", "ql", "yes-no"]
    assert config_of(SERVER | {"api": "chat"}, mine={"fuse": "rrf"}).score.judges == ["ql", "rc"]


def test_a_build_that_asks_for_more_is_refused_with_what_would_work(server, local, tmp_path, corpus, fake_embedder):
    config = config_of(local, generate={"seeds": 2})
    server.apis = {"chat"}
    models = Models(embedder=fake_embedder())
    with pytest.raises(ConfigError) as caught:
        build_fret(config, tmp_path / "out", corpus=corpus, models=models)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"LLM tiny at {server.url}: judge ql needs log-probabilities of the prompt")
    assert "judges that work with it: rc, similarity, yes-no" in message
    assert message.endswith(
        "for example score.judges=[similarity, yes-no] (of gecko-fret judges: --judges similarity,yes-no)"
    )


BUILD = {"generate": {"seeds": 6, "attempts": 1, "max_copied": 1.0, "part_size": 3}, "retrieve": {"candidates": 3}}


def test_a_build_over_chat_keeps_what_it_found_out_and_spent(server, local, tmp_path, corpus, fake_embedder):
    limits = {"api": "chat", "usd_per_million_read": 1.0, "usd_per_million_written": 2.0, "budget_usd": 5.0}
    measure = {"items": 12, "seeds": 0, "candidates": 3}
    config = config_of(local | limits, **BUILD, measure=measure)
    shown = []

    def build():
        models = Models(embedder=fake_embedder())
        return build_fret(config, tmp_path, corpus=corpus, models=models, announce=shown.append)

    summary = build()
    assert summary.complete
    assert len(load_fret(tmp_path)) == summary.counts["rows"] > 0
    assert len(shown) == 1
    assert "judge ql" in shown[0]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (record,) = manifest["llms"].values()
    assert record["capabilities"]["api"] == "chat"
    assert record["spent"]["prompt_tokens"] > summary.tokens["measure"]["prompt_tokens"]
    assert record["usd"] > 0
    assert (
        summary.tokens["measure"]["labels_bounded"] > 12 * 3
    )  # of the two labels one is shown, of the empty query too
    asked = len(server.bodies)
    build()
    assert len(server.bodies) == asked  # nothing is left to do


def test_a_build_ends_before_its_budget_and_goes_on_with_a_larger_one(server, local, tmp_path, corpus, fake_embedder):
    def build(budget):
        llm = local | {"api": "chat", "budget_tokens": budget}
        config = config_of(llm, **BUILD, score={"judges": ["similarity"]}, measure={"items": 12, "seeds": 0})
        return build_fret(config, tmp_path, corpus=corpus, models=Models(embedder=fake_embedder()))

    with pytest.raises(BackendError, match=r"llm\.budget_tokens: the budget is spent"):
        build(1500)
    spent = next(iter(json.loads((tmp_path / "manifest.json").read_text())["llms"].values()))["spent"]
    assert 0 < spent["prompt_tokens"] + spent["generated_tokens"] <= 1500
    asked = len(server.bodies)
    with pytest.raises(BackendError, match="budget is spent"):  # what was spent stays spent
        build(1500)
    assert len(server.bodies) == asked  # what the server can do is known
    assert build(10**6).complete


def test_another_tokenizer_for_the_server_is_another_build(
    server, local, tmp_path, corpus, fake_embedder, word_tokenizer
):
    """Its folder keeps its name, and what it holds has changed."""
    folder = tmp_path / "tokenizer"
    word_tokenizer.save_pretrained(folder)
    config = config_of(
        local | {"api": "chat", "tokenizer": str(folder)},
        **BUILD,
        score={"judges": ["similarity"]},
        measure={"items": 12, "seeds": 0},
    )

    def build():
        return build_fret(config, tmp_path / "fret", corpus=corpus, models=Models(embedder=fake_embedder()))

    assert build().complete
    manifest = tmp_path / "fret" / "manifest.json"
    begun = read_json(manifest, checksum="sha256")
    for stage in begun["stages"].values():  # as folders were that knew the tokenizer by its name
        stage["models"] = _digest([])
    manifest.write_text(json.dumps(begun))
    assert build().complete
    (folder / "tokenizer_config.json").write_text('{"add_bos_token": false}')
    with pytest.raises(ConfigError, match="holds another run"):
        build()


def test_a_build_by_a_schema_gives_the_rows_of_one_by_text(server, says, local, tmp_path, corpus, fake_embedder):
    """With an answer in five of another form, which is rejected as it came."""

    def by_schema(body):
        if "response_format" not in body:
            return says(body)
        if "yes" in str(body["response_format"]):
            return '{"yes": true}'
        text = says(body)
        return f'{{"query": "{text}' if len(text) % 5 == 0 else json.dumps({"query": text})

    def by_text(body):
        text = says(body)
        return f'{{"query": "{text}' if text.startswith("what") and len(text) % 5 == 0 else text

    built = {}
    for name, server.says in (("schema", by_schema), ("text", by_text)):
        config = config_of(local | {"api": "chat"}, **BUILD, score={"judges": ["similarity"]}, measure={"seeds": 0})
        built[name] = build_fret(config, tmp_path / name, corpus=corpus, models=Models(embedder=fake_embedder()))
    asked = [body for body in server.bodies if "Passage" in body["messages"][-1]["content"]]
    assert ["response_format" in body for body in asked] == [True] * 6 + [False] * 6
    assert built["schema"].rejects == built["text"].rejects
    assert built["schema"].rejects["generate"]["unparsable"] > 0
    for name in ("generated", "rejects", "fret"):
        for path in (tmp_path / "schema" / name).glob("*.parquet"):
            assert path.read_bytes() == (tmp_path / "text" / name / path.name).read_bytes()


def test_what_servers_can_do_is_one_table(server, local):
    table = run_llms(config_of(local))
    assert f"{server.url}, completions API" in table
    assert "judge ql                         log-probabilities of the prompt" in table
    with pytest.raises(ConfigError, match=r"no LLM of this configuration is behind a server; name one with"):
        run_llms(parse_config({}))


def test_llms_in_this_process_are_not_asked(fake_llm):
    config = parse_config({"llm": {"model": "fake"}})
    assert check_served(config, Models(llms={"fake": fake_llm()})) is None


def test_budgets_need_one_process(local, tmp_path, corpus, fake_embedder):
    config = config_of(local | {"budget_tokens": 10})
    with pytest.raises(ConfigError, match="kept by one process"):
        build_fret(config, tmp_path, corpus=corpus, models=Models(embedder=fake_embedder()), engine=lambda *_: None)
