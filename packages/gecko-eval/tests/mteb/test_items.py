import pytest

from gecko_core.errors import DataError
from gecko_eval.baselines import Bm25
from gecko_eval.mteb.entries import entries_for
from gecko_eval.mteb.items import save_rankings
from gecko_eval.mteb.run import run_tasks


def read(path):
    rows = [line.split() for line in path.read_text().splitlines()]
    found = {}
    for query, q0, doc, rank, score, _ in rows:
        assert q0 == "Q0"
        found.setdefault(query, {})[doc] = float(score)
        assert int(rank) == len(found[query])
    return found


def test_the_run_file_gives_the_score_again(embedder, data_root, tmp_path):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    entries = entries_for(["toy", "similar"], data_root)
    found = run_tasks(embedder, entries, [64, 16], tmp_path, rankings=True, say=lambda _: None)["tasks"]
    assert sorted(p.name for p in (tmp_path / "rankings").iterdir()) == ["toy@16.trec", "toy@64.trec"]
    qrels = {}
    for line in (data_root / "toy" / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, doc, grade = line.split()
        qrels.setdefault(query, {})[doc] = int(grade)
    for dim in (64, 16):
        judged = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(
            read(tmp_path / "rankings" / f"toy@{dim}.trec")
        )
        mean = sum(scores["ndcg_cut_10"] for scores in judged.values()) / len(judged)
        assert mean == pytest.approx(found["toy"]["scores"][str(dim)]["main"], abs=1e-5)


def test_a_task_scored_before_is_run_again_for_its_rankings_once(data_root, tmp_path):
    entries = entries_for(["toy"], data_root)
    said = []
    for rankings in (False, True, True):
        run_tasks(Bm25(), entries, [0], tmp_path, rankings=rankings, say=said.append)
    assert ["done before" in line for line in said] == [False, False, True]
    assert read(tmp_path / "rankings" / "toy.trec").keys() == {f"q{i}" for i in range(12)}


def test_subsets_get_a_file_each_and_odd_ids_are_refused(tmp_path):
    two = {f"test/{language}": {"q": {"d1": 0.5, "d2": 0.5, "d0": 0.7}} for language in ("de", "en")}
    assert save_rankings(tmp_path, "many", 8, two, "a model") == ["many@8.de.trec", "many@8.en.trec"]
    assert (tmp_path / "rankings" / "many@8.de.trec").read_text() == (
        "q Q0 d0 1 0.7 a-model\nq Q0 d2 2 0.5 a-model\nq Q0 d1 3 0.5 a-model\n"
    )
    with pytest.raises(DataError, match="odd: the id 'd 1' holds white space"):
        save_rankings(tmp_path, "odd", 8, {"test/default": {"q": {"d 1": 1.0}}}, "m")
    assert not (tmp_path / "rankings" / "odd@8.trec").exists()
