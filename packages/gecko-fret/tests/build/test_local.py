import json
import os
import signal
import threading
import time

import pytest

from gecko_core.errors import BackendError
from gecko_fret.build.local import waits_for_servers
from gecko_fret.build.pipeline import build_fret
from gecko_fret.config import parse_config
from gecko_fret.models import Models
from gecko_fret.steps import WRITE

pytest.importorskip("openai")


@pytest.fixture
def config(local, word_tokenizer, tmp_path_factory):
    """Six parts of two seeds, written over the chat API."""

    def config(**llm):
        judges = None
        if llm.get("api") == "completions":
            judges = ["similarity", "ql", "rc"]  # the labels of rc are tokens of this vocabulary
            folder = tmp_path_factory.mktemp("tokenizer")
            word_tokenizer.save_pretrained(folder)
            llm["tokenizer"] = str(folder)
        return parse_config(
            {
                "llm": local | {"api": "chat", "timeout_s": 20} | llm,
                "generators": [local | {"api": "chat", "timeout_s": 20} | llm | {"api": "chat", "tokenizer": None}],
                "generate": {"seeds": 12, "attempts": 1, "max_copied": 1.0, "part_size": 2},
                "retrieve": {"candidates": 3},
                "score": {"judges": judges},
                "measure": {"items": 12, "seeds": 0, "candidates": 3, "part_size": 3},
            }
        )

    return config


def built(config, out, corpus, embedder, **options):
    return build_fret(config, out, corpus=corpus, models=Models(embedder=embedder()), **options)


def files(out):
    return {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*.parquet"))}


def one_by_one(build, step, missing):
    """The engine that keeps to the order of the parts."""
    for number in missing:
        build.record(step, step.run_part(build.context, number), 0.0)


@pytest.mark.long
@pytest.mark.parametrize("api", ["chat", "completions"])  # over the latter ql and yes-no are read from one pass
def test_parts_side_by_side_are_those_made_one_by_one(api, config, server, tmp_path, corpus, fake_embedder):
    server.pause, settings, in_flight = 0.02, config(api=api), []
    for out, options in (("beside", {}), ("alone", {"engine": one_by_one})):
        server.most_in_flight = 0
        built(settings, tmp_path / out, corpus, fake_embedder, until=WRITE, **options)
        in_flight.append(server.most_in_flight)
    assert in_flight[1] <= 2 < in_flight[0]
    summary = built(settings, tmp_path / "beside", corpus, fake_embedder)
    other = built(settings, tmp_path / "alone", corpus, fake_embedder, engine=one_by_one)
    assert files(tmp_path / "beside") == files(tmp_path / "alone")  # their counters of tokens included
    assert summary.tokens == other.tokens
    assert summary.counts == other.counts


def test_seconds_of_parts_side_by_side_are_those_of_the_clock(config, server, tmp_path, corpus, fake_embedder):
    server.pause = 0.05
    began = time.monotonic()
    summary = built(config(), tmp_path, corpus, fake_embedder)
    assert 0 < sum(summary.seconds.values()) <= time.monotonic() - began


def test_where_a_request_fails_the_parts_in_the_making_are_kept(config, server, tmp_path, corpus, fake_embedder):
    refused = []

    def says(body, plain=server.says):
        asked = body["messages"][-1]["content"]
        if not refused and "Passage" in asked:
            refused.append(asked)
        if asked in refused:
            raise ConnectionError("closed without an answer")
        time.sleep(0.05)
        return plain(body)

    server.says = says
    with pytest.raises(BackendError):
        built(config(retries=0), tmp_path, corpus, fake_embedder)
    parts = list((tmp_path / "attempts").glob("part-*.parquet"))
    assert parts
    assert {f"attempts/{path.name}" for path in parts} <= set(
        json.loads((tmp_path / "manifest.json").read_text())["parts"]
    )


def test_an_interrupt_ends_the_threads_at_once(config, server, tmp_path, corpus, fake_embedder):
    """Ctrl-C while requests wait for a server that does not answer."""
    server.pause = 0.01
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))

    def says(body, plain=server.says):
        if "relevant" in body["messages"][-1]["content"]:
            server.pause = 30
            timer.start() if not timer.is_alive() and not timer.finished.is_set() else None
        return plain(body)

    server.says = says
    began = time.monotonic()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # test runners of several processes ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            built(config(timeout_s=60), tmp_path, corpus, fake_embedder)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 20
    server.pause = 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gecko-fret-part")]


def test_only_servers_without_a_budget_are_waited_for_side_by_side(config):
    assert waits_for_servers(config())
    assert not waits_for_servers(config(budget_tokens=1000))
    assert not waits_for_servers(config(budget_usd=1.0, usd_per_million_read=1.0, usd_per_million_written=1.0))
    assert not waits_for_servers(parse_config({}))
