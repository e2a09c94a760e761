import hashlib
import json
from typing import ClassVar

import pytest

from gecko_core.errors import DataError
from gecko_fret.build.fingerprints import fingerprints
from gecko_fret.build.pipeline import build_fret
from gecko_fret.config import parse_config
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.judges import JUDGES, Judge
from gecko_fret.judges.fusion import Fusion
from gecko_fret.steps import MEASURE, SCORE
from gecko_fret.steps.base import BuildContext

SETTINGS = {
    "llm": {"model": "fake"},
    "generate": {"seeds": 12, "max_copied": 1.0},
    "retrieve": {"candidates": 6, "part_size": 5},
    "measure": {"items": 20, "seeds": 6, "candidates": 6, "part_size": 4},
    "score": {"judges": ["similarity", "ql", "coin"]},
}


class Coin(Judge):
    """Says whatever the hash of the pair says, and remembers how often it was asked."""

    name = "coin"
    asked: ClassVar[list[int]] = []

    def judge(self, batch):
        self.asked.append(len(batch.pairs))
        digests = [hashlib.sha256(f"{p.query_id} {p.passage.id}".encode()).digest() for p in batch.pairs]
        return [float(int.from_bytes(digest[:4], "big")) for digest in digests]


@pytest.fixture(autouse=True)
def coin(monkeypatch):
    monkeypatch.setattr(Coin, "asked", [])
    monkeypatch.setitem(JUDGES, "coin", Coin)


@pytest.fixture
def small_corpus(small_corpus):
    """Passages of two sentences of the same words, so that fakes which count shared words find them."""
    passages = []
    for passage in small_corpus:
        words = [word for word in passage.text.rstrip(".").split() if "word" in word]
        text = f"{' '.join(words).capitalize()}. {' '.join(reversed(words)).capitalize()}."
        passages.append(Passage(passage.id, " ".join(words[:3]), text))
    return Corpus(passages, name="small")


@pytest.fixture
def config():
    return parse_config(SETTINGS)


def test_the_build_measures_fits_and_asks_only_useful_judges(tmp_path, small_corpus, make_models, config):
    summary = build_fret(config, tmp_path / "out", corpus=small_corpus, models=make_models())
    assert summary.counts["measured"] == 26
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    weights = manifest["judges"]["weights"]
    assert weights["coin"] == 0
    assert weights["ql"] > 0
    assert sum(Coin.asked) == 26 * 6  # the known items alone
    for pair in SCORE.parts(tmp_path / "out", config):
        assert pair.judgements["coin"] is None
        assert pair.judgements["ql"] is not None
    costs = manifest["judges"]["tokens_per_pair"]
    assert set(costs) == {"ql"}
    assert costs["ql"] > 0


def test_useless_judges_are_asked_where_the_configuration_wants_their_scores(
    tmp_path, small_corpus, make_models, config
):
    config = parse_config(SETTINGS | {"score": SETTINGS["score"] | {"skip_useless": False}})
    build_fret(config, tmp_path / "out", corpus=small_corpus, models=make_models())
    assert all(pair.judgements["coin"] is not None for pair in SCORE.parts(tmp_path / "out", config))


def test_a_later_version_that_fits_otherwise_goes_on_with_the_weights_of_the_build(
    tmp_path, small_corpus, make_models, config, monkeypatch
):
    def rows(out):
        return {path.name: path.read_bytes() for path in (out / "fret").glob("*.parquet")}

    build_fret(config, tmp_path / "whole", corpus=small_corpus, models=make_models())
    begun = tmp_path / "begun"
    build_fret(config, begun, corpus=small_corpus, models=make_models(), until=SCORE)
    fitted = Fusion({"ql": 0.1, "similarity": 0.1, "coin": 5.0}, 1.0, 20)  # coin was left out of the pairs
    monkeypatch.setattr("gecko_fret.steps.measure.fit_judges", lambda *_: fitted)
    build_fret(config, begun, corpus=small_corpus, models=make_models())
    assert rows(begun) == rows(tmp_path / "whole")
    weights = [json.loads((out / "manifest.json").read_text())["judges"] for out in (begun, tmp_path / "whole")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    "weights", [{"ql": 1.0}, {"ql": "1", "similarity": 1.0, "coin": 0.0}, {"ql": 0, "similarity": 0, "coin": 0}, None]
)
def test_weights_in_the_manifest_that_cannot_be_are_fitted_anew(
    tmp_path, small_corpus, make_models, config, weights, monkeypatch
):
    monkeypatch.setattr("gecko_fret.steps.measure.fit_judges", lambda *_: "fitted")
    build = BuildContext(tmp_path, config, small_corpus, make_models())
    build.recorded = {"judges": {"weights": weights, "ridge": 1.0}}
    assert MEASURE.fusion(build) == "fitted"


def test_a_stopped_measurement_goes_on_to_the_same_bytes(tmp_path, small_corpus, make_models, config):
    def parts(out):
        return {path.name: path.read_bytes() for path in (out / "measured").iterdir()}

    build_fret(config, tmp_path / "whole", corpus=small_corpus, models=make_models(), until=MEASURE)
    stopped = tmp_path / "stopped"
    build_fret(
        config,
        stopped,
        corpus=small_corpus,
        models=make_models(),
        stop=lambda: len(list(stopped.glob("measured/p*"))) > 2,
    )
    assert 2 < len(parts(stopped)) < len(parts(tmp_path / "whole"))
    build_fret(config, stopped, corpus=small_corpus, models=make_models(), until=MEASURE)
    assert parts(stopped) == parts(tmp_path / "whole")


def test_reciprocal_rank_fusion_measures_nothing(tmp_path, small_corpus, make_models):
    settings = {key: value for key, value in SETTINGS.items() if key != "score"} | {"mine": {"fuse": "rrf"}}
    summary = build_fret(parse_config(settings), tmp_path / "out", corpus=small_corpus, models=make_models())
    assert summary.counts["measured"] == 0
    assert not (tmp_path / "out" / "measured").exists()
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["judges"] == {}


def test_items_and_judges_decide_the_fingerprint(tmp_path, small_corpus, make_models):
    def digest(**changes):
        build = BuildContext(tmp_path, parse_config(SETTINGS | changes), small_corpus, make_models())
        return fingerprints(build)

    plain = digest()
    for changes in ({"measure": {"items": 12}}, {"score": {"judges": ["similarity", "ql"]}}, {"seed": 9}):
        other = digest(**changes)
        assert other["measure"] != plain["measure"]
        assert other["score"] != plain["score"]
        assert other["mine"] != plain["mine"]
    assert digest(mine={"min_probability": 0.5})["score"] == plain["score"]


def test_a_corpus_without_known_items_is_refused_before_anything_is_written(tmp_path, make_models, config):
    corpus = Corpus([Passage(f"p{i}", None, f"Only a few words {i}.") for i in range(30)], name="tiny")
    with pytest.raises(DataError, match=r"tiny: .* give 0 .*; add passages, or set mine\.fuse: rrf"):
        build_fret(config, tmp_path / "out", corpus=corpus, models=make_models())
    assert not (tmp_path / "out" / "attempts").exists()


def test_judges_that_are_all_coins_are_refused(tmp_path, small_corpus, make_models):
    settings = SETTINGS | {"score": {"judges": ["coin"]}}
    with pytest.raises(DataError, match="none of the judges coin finds the passages of 20 known items"):
        build_fret(parse_config(settings), tmp_path / "out", corpus=small_corpus, models=make_models())
