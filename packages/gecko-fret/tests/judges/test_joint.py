import threading

import numpy as np
import pytest
import yaml

from gecko_core.errors import ConfigError
from gecko_fret.config import parse_config
from gecko_fret.judges import JUDGES, Batch, JudgeSetup
from gecko_fret.judges.joint import joint_prompt
from gecko_fret.llm.lanes import lane, waiting
from gecko_fret.models import Models
from gecko_fret.prompting import load_prompts


def score(**settings):
    return parse_config({"score": settings, "mine": {"fuse": "calibrated"}}).score


def test_by_default_ql_is_read_on_the_way_to_yes_or_no():
    prompt = joint_prompt(score())
    assert (prompt.judge, list(prompt.labels)) == ("yes-no", [" No", " Yes"])
    request = prompt.request("Some text.", "what is it")
    assert request.context == "Passage: Some text.\nQuery:"
    assert (request.continuation, request.tail) == (" what is it", "\nIs the passage relevant to the query?")


@pytest.mark.parametrize(
    ("settings", "judge"),
    [
        ({"judges": ["ql"]}, None),
        ({"judges": ["yes-no", "similarity"]}, None),
        ({"judges": ["ql", "rc"]}, "rc"),
        ({"judges": ["rc", "yes-no", "ql"]}, "yes-no"),
        ({"mode": "separate"}, None),
        ({"judges": ["ql"], "mode": "joint"}, "rc"),
        ({"yes_no": {"prompt": "qwen3-reranker"}}, None),
        ({"judges": ["ql", "yes-no", "rc"], "yes_no": {"prompt": "qwen3-reranker"}}, None),
    ],
)
def test_which_judge_is_read_with_ql(settings, judge):
    found = joint_prompt(score(**settings))
    assert (found and found.judge) == judge


def test_with_the_papers_fusion_each_judge_has_its_own_pass():
    assert joint_prompt(parse_config({"mine": {"fuse": "rrf"}}).score) is None


def test_joint_scoring_that_a_prompt_does_not_allow_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"score.mode joint: in prompt 'qwen3-reranker' .* use auto or separate"):
        joint_prompt(score(mode="joint", yes_no={"prompt": "qwen3-reranker"}))
    prompt = tmp_path / "p.yaml"
    prompt.write_text(yaml.safe_dump({"template": "Query: {query}\nPassage: {passage}\nRelevant:"}))
    with pytest.raises(ConfigError, match="has the query first"):
        joint_prompt(score(mode="joint", yes_no={"prompt": str(prompt)}))
    assert joint_prompt(score(yes_no={"prompt": str(prompt)})) is None


@pytest.mark.parametrize("calibrate", [True, False])
def test_labels_are_those_of_a_pass_of_their_own(judge, pairs, spy_llm, calibrate):
    def label(request):
        query = (request.continuation + request.tail).partition("\n")[0]
        yes = (1 + len(query) + len(request.context)) / 400
        return (1 - yes, yes)

    asked = pairs("what tastes sour")
    settings = {"judges": ["yes-no", "ql"], "calibrate": calibrate}
    own, _ = judge("yes-no", asked, settings | {"mode": "separate"}, llm=spy_llm(label))
    llm = spy_llm(label)
    joint, batch = judge("yes-no", asked, settings, llm=llm)
    np.testing.assert_allclose(joint, own, rtol=1e-12)
    assert len(llm.requests) == (8 if calibrate else 4)
    assert JUDGES["ql"](batch._setup).judge(batch) == [-1.0] * 4
    assert len(llm.requests) == (8 if calibrate else 4)


def test_where_the_label_judge_is_not_asked_the_pass_ends_with_the_query(pairs, spy_llm):
    llm = spy_llm(lambda request: ())
    config = parse_config({"llm": {"model": "given"}})
    setup = JudgeSetup(config, Models(llms={"given": llm}), None)
    batch = Batch(pairs("sour"), setup, load_prompts("default"), joint_prompt(config.score), ["similarity", "ql"])
    assert JUDGES["ql"](setup).judge(batch) == [-1.0] * 4
    assert [(request.continuation, request.tail) for request in llm.requests] == [(" sour", "")] * 4
    assert all("relevant to the query? No" in request.prefix for request in llm.requests)


def test_parts_side_by_side_wait_for_the_server_at_once(pairs, spy_llm):
    """A lock that one part holds while it waits, and another asks for while it has the turn, would end them both."""
    both, turn = threading.Barrier(2, timeout=10), threading.Lock()

    class Served(spy_llm):
        def score(self, requests, labels=(), *, blocks=False):
            with waiting():
                both.wait()
            return super().score(requests, labels, blocks=blocks)

    llm = Served(lambda request: (0.5, 0.5))
    config = parse_config({"llm": {"model": "given"}})
    setup = JudgeSetup(config, Models(llms={"given": llm}), None)
    done = []

    def part():
        batch = Batch(pairs("sour"), setup, load_prompts("default"), joint_prompt(config.score))
        with lane(turn):
            done.append(JUDGES["ql"](setup).judge(batch))

    threads = [threading.Thread(target=part, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert done == [[-1.0] * 4] * 2
