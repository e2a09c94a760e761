import pytest

from gecko_eval.report.sections.paper import merge_forums


def test_the_forums_of_cqadupstack_count_as_one_task():
    forums = {f"CQADupstack{i}Retrieval": float(i) for i in range(12)}
    assert merge_forums(forums)["CQADupstackRetrieval"] == pytest.approx(5.5)
    assert "CQADupstackRetrieval" not in merge_forums({k: v for k, v in forums.items() if "11" not in k})
