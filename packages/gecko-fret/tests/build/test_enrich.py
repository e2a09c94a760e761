"""The command: a corpus, queries, columns of a table; and what does not go together."""

import json

import pytest
from typer.testing import CliRunner

from gecko_core.enriched import read_enriched
from gecko_fret.build import enrich as module
from gecko_fret.build.pipeline import build_fret
from gecko_fret.cli import app
from gecko_fret.llm.protocol import Completion


@pytest.fixture
def invoke(monkeypatch, fake_llm, fake_embedder, tmp_path):
    from gecko_fret.models import Models

    class Writer(fake_llm):
        def _complete(self, prefix, body, seed):
            text = body.partition("Text: ")[2].rpartition("\n")[0]
            return Completion(f" In other words, {text}", -1.0, 4, True)

    def build(config, out, **options):
        return build_fret(config, out, models=Models(llms={"fake": Writer()}, embedder=fake_embedder()), **options)

    monkeypatch.setattr(module, "build_fret", build)

    def call(*arguments):
        out = ["--out", str(tmp_path / "run"), "--llm", "fake"]
        return CliRunner().invoke(app, ["enrich", *(str(a) for a in arguments), *out])

    return call


def test_a_corpus(invoke, tmp_path):
    rows = [{"id": str(n), "title": "T", "text": f"text number {n} of some"} for n in range(5)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = invoke("--corpus", tmp_path / "c.jsonl", "--prompt", "enrich-grammar", "--limit", 4)
    assert result.exit_code == 0, result.output
    assert "4 of 4 texts enriched; the others stay as they are: none" in result.output
    assert read_enriched(tmp_path / "run")["text number 2 of some"] == "In other words, text number 2 of some"


def test_queries_and_columns(invoke, tmp_path):
    (tmp_path / "q.txt").write_text("who barks\n\nwhat climbs walls\nwho barks\n")
    result = invoke("--queries", tmp_path / "q.txt")
    assert "2 of 2 texts enriched" in result.output, result.output
    assert dict(read_enriched(tmp_path / "run")).keys() == {"who barks", "what climbs walls"}
    pairs = [{"sentence1": "a b c", "sentence2": "d e f"}, {"sentence1": "d e f", "sentence2": "g h i"}]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    result = invoke("--corpus", tmp_path / "pairs.jsonl", "--columns", "sentence1, sentence2", "--force")
    assert "3 of 3 texts enriched" in result.output, result.output
    assert set(read_enriched(tmp_path / "run")) == {"a b c", "d e f", "g h i"}


def test_what_does_not_go_together_is_one_line(invoke, tmp_path):
    (tmp_path / "q.txt").write_text("who barks\n")
    (tmp_path / "empty.jsonl").write_text('{"text": " "}\n')

    def told(*arguments):
        result = invoke(*arguments)
        assert result.exit_code == 2, result.output
        assert not (tmp_path / "run").exists()
        return result.output

    assert "--queries does not go with --corpus" in told("--queries", tmp_path / "q.txt", "--corpus", "x")
    assert "--columns needs --corpus with a table" in told("--columns", "text")
    assert "holds no text" in told("--columns", "text", "--corpus", tmp_path / "empty.jsonl")
    assert "neither a packaged prompt" in told("--queries", tmp_path / "q.txt", "--prompt", "enrich-nothing")
