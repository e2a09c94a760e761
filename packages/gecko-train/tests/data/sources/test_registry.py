import json
import os
from pathlib import Path

import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_core.text_identity import text_id
from gecko_train.config import SetConfig, StageConfig
from gecko_train.data.sources.base import SourceContext
from gecko_train.data.sources.registry import load_set, run_inputs


def load(**config):
    return list(load_set(SetConfig(**config), SourceContext()))


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (
            {"source": "tripletts", "path": "x"},
            ConfigError,
            "unknown source 'tripletts'; the sources are title-body, fret",
        ),
        ({"source": "triplets"}, ConfigError, "source 'triplets' needs a `path`"),
        ({"source": "title-body"}, ConfigError, "without a corpus; give it a `path`"),
        ({"source": "fret"}, ConfigError, "source 'fret' without a path"),
        ({"source": "triplets", "path": "nowhere.jsonl"}, DataError, r"nowhere\.jsonl: no such file or folder"),
        ({"source": "triplets", "path": "latin.jsonl"}, DataError, r"latin\.jsonl:1: not UTF-8"),
        ({"source": "triplets", "path": "broken.jsonl"}, DataError, r"broken\.jsonl:2: not JSON"),
        ({"source": "triplets", "path": "empty.jsonl"}, DataError, r"empty\.jsonl: the file is empty"),
        ({"source": "triplets", "path": "what.docx"}, DataError, r"what\.docx: unknown kind of file"),
        ({"source": "triplets", "path": "."}, DataError, "no file train.jsonl"),
    ],
)
def test_what_cannot_be_read_is_one_error_line(tmp_path, monkeypatch, config, error, message):
    monkeypatch.chdir(tmp_path)
    Path("latin.jsonl").write_bytes('{"query": "é", "positive": "p"}\n'.encode("latin-1"))
    Path("broken.jsonl").write_text('{"query": "q", "positive": "p"}\n{"query": \n', encoding="utf-8")
    Path("empty.jsonl").write_text("", encoding="utf-8")
    Path("what.docx").write_text("x", encoding="utf-8")
    with pytest.raises(error, match=message) as caught:
        load(**config)
    assert "\n" not in str(caught.value)


needs_data = pytest.mark.skipif("GECKO_DATA_DIR" not in os.environ, reason="GECKO_DATA_DIR is not set")


@needs_data
@pytest.mark.parametrize(
    ("source", "path", "options"),
    [
        ("hotpotqa", "hotpotqa_sample", {}), ("medmcqa", "medmcqa", {}), ("snli", "snli_sample", {}),
        ("mnli", "xnli", {"where": {"lang": "en"}}), ("fever", "climate_fever", {}), ("nq", "nq_open", {}),
        ("qa", "mlqa", {"where": {"context_lang": "en", "question_lang": "en"}}), ("qa", "boolq", {}),
        ("qa", "bioasq", {}), ("qa", "pubmedqa", {}), ("qa", "wikiqa", {}), ("qa", "techqa_sample", {}),
        ("qa", "expertqa_sample", {}), ("classification", "banking77", {}), ("classification", "emotion", {}),
        ("beir", "scifact", {}), ("beir", "fiqa_gold", {}),
    ],
)  # fmt: skip
def test_the_real_samples_become_rows(source, path, options):
    rows = load_set(SetConfig(source=source, path=path, options=options), SourceContext())
    assert len(rows) >= 50
    for row in rows.rows(range(50)):
        assert row.task
        assert row.query.strip()
        assert row.positive.text.strip()
        assert row.positive.text not in [negative.text for negative in row.negatives]


def test_what_sets_without_a_path_read_of_the_run(tmp_path):
    def inputs(*sets):
        return run_inputs(SetConfig(source=source, path=path) for source, path in sets)

    assert inputs(("title-body", None), ("fret", None)) == {"corpus", "fret"}
    assert (
        inputs(("title-body", "a.jsonl"), ("fret", "folder"), ("pairs", "b.jsonl"), ("no such source", None)) == set()
    )


@pytest.mark.parametrize("how", [{}, {"stream": True, "rows": 3}, {"limit": 2}])
def test_queries_that_are_set_apart_are_in_no_set(tmp_path, how):
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"query": name, "positive": f"p {name}"}) for name in "abcd"]
    path.write_text("\n".join(lines), encoding="utf-8")
    config = SetConfig(source="pairs", path=str(path), **how)
    found = load_set(config, SourceContext(held_out=frozenset([text_id("A"), text_id("c")])))
    queries = found.batch(0, 2).tolist() if how.get("stream") else [row.query for row in found]
    assert queries == ([0, 1] if how.get("stream") else ["b", "d"])
    if how.get("stream"):
        assert {row.query for row in found.rows([0, 1])} == {"b", "d"}


def test_the_stages_number_of_hard_negatives_is_that_of_classification(tmp_path):
    """One was drawn wherever the set itself did not say more."""
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"text": f"t{n}", "label": n % 4}) + "\n" for n in range(8)))
    entry = {"source": "classification", "path": str(path)}
    for stage in (
        {"objective": {"hard_negatives": 4}, "sets": [entry]},
        {"sets": [entry | {"objective": {"hard_negatives": 4}}]},
    ):
        config = StageConfig.model_validate(stage)
        context = SourceContext().reading(config.objective_of(config.sets[0]), block=False)
        assert [len(row.negatives) for row in load_set(config.sets[0], context)] == [4] * 8
