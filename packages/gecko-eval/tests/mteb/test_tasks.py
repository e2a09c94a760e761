import pytest

from gecko_core.errors import ConfigError
from gecko_eval.mteb.tasks import expand_names, prompt_fingerprint, task_prompt


@pytest.mark.parametrize(
    ("name", "kind", "task", "symmetric"),
    [
        ("Banking77Classification", "Classification", "classification", True),
        ("TwitterURLCorpus", "PairClassification", "semantic similarity", True),
        ("STS17", "STS", "semantic similarity", True),
        ("ArxivClusteringP2P", "Clustering", "search result", True),
        ("QuoraRetrieval", "Retrieval", "search result", True),
        ("AskUbuntuDupQuestions", "Reranking", "question answering", False),
        ("SciDocsRR", "Reranking", "question answering", False),
        ("MindSmallReranking", "Reranking", "semantic similarity", False),
        ("ArguAna", "Retrieval", "semantic similarity", False),
        ("StackOverflowDupQuestions", "Reranking", "search result", False),
        ("SummEvalSummarization.v2", "Summarization", "search result", False),
        ("ClimateFEVERHardNegatives", "Retrieval", "search result", False),
        ("FEVERHardNegatives.v2", "Retrieval", "search result", False),
        ("HotpotQA", "Retrieval", "search result", False),
        ("TRECCOVID", "Retrieval", "search result", False),
        ("CQADupstackGamingRetrieval", "Retrieval", "question answering", False),
        ("DBPedia", "Retrieval", "question answering", False),
        ("FiQA2018", "Retrieval", "question answering", False),
        ("MSMARCO", "Retrieval", "question answering", False),
        ("NQ", "Retrieval", "question answering", False),
        ("SCIDOCS", "Retrieval", "question answering", False),
        ("Touche2020Retrieval.v3", "Retrieval", "question answering", False),
        ("NFCorpus", "Retrieval", "fact checking", False),
        ("NanoSciFactRetrieval", "Retrieval", "fact checking", False),
    ],
)
def test_table_9_of_the_paper(name, kind, task, symmetric):
    prompt = task_prompt(name, kind)
    assert (prompt.task, prompt.symmetric, prompt.source) == (task, symmetric, "paper")


def test_strings_that_are_ours_say_so():
    assert task_prompt("MIRACLRetrievalHardNegatives", "Retrieval").source == "ours"
    assert str(task_prompt("SomethingNew", "Retrieval")) == "search result (asymmetric, ours)"


def test_every_task_of_the_english_benchmarks_has_the_papers_prompt():
    for benchmark in ("MTEB(eng, v1)", "MTEB(eng, v2)", "BEIR"):
        tasks = expand_names([benchmark])
        assert len(tasks) >= 26
        ours = [t.metadata.name for t in tasks if task_prompt(t.metadata.name, t.metadata.type).source != "paper"]
        assert ours == []


def test_aggregates_are_replaced_by_their_parts_and_names_merge():
    names = [t.metadata.name for t in expand_names(["CQADupstackRetrieval", "SciFact", "SciFact"])]
    assert len(names) == 13
    assert names[-1] == "SciFact"
    assert [t.metadata.name for t in expand_names(["MIRACL"])] == ["MIRACLRetrieval"]


def test_unknown_names_propose_near_ones():
    with pytest.raises(ConfigError, match=r"'SciFacts'; did you mean SciFact"):
        expand_names(["SciFacts"])


def test_the_fingerprint_is_stable_within_a_process():
    assert prompt_fingerprint() == prompt_fingerprint()
    assert len(prompt_fingerprint()) == 12


def test_mteb_reads_the_same_prompts_from_a_saved_model():
    from mteb.models.abs_encoder import get_prompt_name
    from mteb.types import PromptType

    from gecko_core import format_query
    from gecko_core.prompts import saved_prompts

    saved = saved_prompts()
    tasks = expand_names(["MTEB(eng, v1)", "MTEB(eng, v2)", "BEIR", "MIRACL"])
    assert len(tasks) > 60
    for task in tasks:
        name = get_prompt_name(saved, task.metadata, PromptType.query)
        prompt = task_prompt(task.metadata.name, task.metadata.type)
        assert saved[name] == format_query("", prompt.task), task.metadata.name
