import json

import pytest
import yaml

from gecko_core.errors import ConfigError
from gecko_fret.build.judges import ASKED, as_text, measure_judges, measuring_config
from gecko_fret.build.report import ReportSection
from gecko_fret.config import parse_config
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.judges import JUDGES
from gecko_fret.prompting import load_prompts

SETTINGS = {
    "llm": {"model": "fake"},
    "mine": {"fuse": "rrf"},
    "generate": {"max_copied": 1.0},
    "measure": {"items": 24, "seeds": 6, "candidates": 5, "part_size": 4},
}
NAMES = ["similarity", "ql", "rc"]


@pytest.fixture
def corpus(small_corpus):
    """Titles of words that stand in their passages, so that fakes which count shared words find them."""
    own = [[w for w in p.text.rstrip(".").split() if "word" in w] for p in small_corpus]
    return Corpus([Passage(p.id, " ".join(w[:3]), p.text) for p, w in zip(small_corpus, own, strict=True)], "small")


def test_measuring_asks_all_judges_that_need_no_further_model_and_writes_few_queries():
    config = measuring_config(parse_config(SETTINGS))
    assert config.mine.fuse == "calibrated"
    assert config.generate.seeds == 6
    assert config.score.judges == [*ASKED]
    assert config.retrieve.seed_top_k is None
    assert set(ASKED) <= set(JUDGES)
    assert measuring_config(parse_config(SETTINGS), ["ql"]).score.judges == ["ql"]


def test_tables_of_every_prompt_are_side_by_side(tmp_path, corpus, make_models):
    other = tmp_path / "other.yaml"
    values = load_prompts("default").model_dump(mode="json")
    values["query_likelihood"]["template"] = "Text: {passage}\nQuery:"
    other.write_text(yaml.safe_dump(values))
    config = measuring_config(parse_config(SETTINGS), NAMES)
    options = {"corpus": corpus, "models": make_models()}
    sections = measure_judges(config, tmp_path / "out", ["default", str(other)], **options)
    titles = [section.title for section in sections]
    assert titles[0] == "Judges on known items (prompt default)"
    assert "Judges on written queries (prompt other)" in titles
    for name in ("default", "other"):
        manifest = json.loads((tmp_path / "out" / name / "manifest.json").read_text())
        assert manifest["counts"] == {}  # no further than the measurement
        assert set(manifest["judges"]["weights"]) == set(NAMES)
    assert len(list((tmp_path / "out" / "embeddings").iterdir())) == 1
    assert measure_judges(config, tmp_path / "out", ["default", str(other)], **options) == sections


def test_a_folder_of_another_measurement_is_left_alone(tmp_path, corpus, make_models):
    """The message named --force, which this command does not have."""
    options = {"corpus": corpus, "models": make_models()}
    measure_judges(measuring_config(parse_config(SETTINGS), NAMES), tmp_path / "out", ["default"], **options)
    other = measuring_config(parse_config(SETTINGS), NAMES[:2])
    with pytest.raises(
        ConfigError, match=r"default: holds another run: .* choose another output folder \(--out\)"
    ) as caught:
        measure_judges(other, tmp_path / "out", ["default"], **options)
    assert "--force" not in str(caught.value)


def test_a_stopped_measurement_gives_no_tables_and_goes_on(tmp_path, corpus, make_models):
    config = measuring_config(parse_config(SETTINGS), NAMES)
    options = {"corpus": corpus, "models": make_models()}
    asked = iter([False] * 4)
    assert measure_judges(config, tmp_path, ["default"], stop=lambda: next(asked, True), **options) is None
    assert measure_judges(config, tmp_path, ["default"], **options)[0].rows


def test_prompts_of_the_same_name_are_refused(tmp_path, make_models):
    config = measuring_config(parse_config(SETTINGS))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file: is a file; choose a folder for the output"):
        measure_judges(config, tmp_path / "file", ["default"])
    with pytest.raises(ConfigError, match="two prompt files have the same name"):
        measure_judges(config, tmp_path, ["default", "elsewhere/default.yaml"], models=make_models())


def test_text_has_aligned_columns():
    section = ReportSection("Title", "A note.", ("judge", "MRR"), [("similarity", 0.5), ("ql", 0.25)])
    assert as_text(section).splitlines() == [
        "Title",
        "A note.",
        "judge       MRR",
        "similarity  0.5",
        "ql          0.25",
    ]
