import pytest

from gecko_core.errors import ConfigError
from gecko_eval.data.beir import load_beir
from gecko_eval.mteb.entries import entries_for
from gecko_eval.mteb.local import from_retrieval_set


def test_names_mean_folders_first_then_mteb(data_root, make_public):
    make_public(data_root / "similar", "STSBenchmark")
    entries = entries_for(["local"], data_root)
    assert {e.name for e in entries} == {"groups", "same", "STSBenchmark", "topics", "toy"}
    by_either_name = [entries_for([name], data_root)[0] for name in ("similar", "STSBenchmark")]
    assert [e.origin for e in by_either_name] == ["folder similar", "folder similar"]
    assert [(e.name, e.origin) for e in entries_for(["NFCorpus"], data_root)] == [("NFCorpus", "mteb")]
    with pytest.raises(ConfigError, match="needs a data folder"):
        entries_for(["local"], None)
    with pytest.raises(ConfigError, match="no task, benchmark or folder is called 'zzzz'"):
        entries_for(["zzzz"], data_root)


def test_two_sets_of_one_name_are_refused(beir_folder):
    own = from_retrieval_set(load_beir(beir_folder), beir_folder)
    with pytest.raises(ConfigError, match="two sets of one name"):
        entries_for([], None, [own, own])


def test_names_that_two_sets_share_are_refused(data_root, tmp_path, beir_folder):
    own = from_retrieval_set(load_beir(beir_folder), tmp_path / "mine" / "toy")
    with pytest.raises(ConfigError, match=r"toy and .*mine/toy are both called toy; rename one"):
        entries_for(["toy"], data_root, [own])
    assert [entry.origin for entry in entries_for(["similar"], data_root, [own])] == ["folder toy", "folder similar"]
    (data_root / "to").mkdir()
    beir_folder.rename(data_root / "to" / "y")
    (data_root / "similar").rename(data_root / "to-y")
    with pytest.raises(ConfigError, match=r"to/y and .*to-y are both called to-y|to-y and .*to/y are both called"):
        entries_for(["local"], data_root)
