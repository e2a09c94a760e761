import pytest
import yaml

from gecko_core.errors import ConfigError
from gecko_fret.config import parse_config
from gecko_fret.judges import YesNo
from gecko_fret.judges.yes_no import YesNoBlock
from gecko_fret.models import Models
from gecko_fret.prompting import load_prompt


def whole(request):
    return request.prefix + request.context + request.continuation + request.tail


def test_the_query_stands_after_the_passage_and_alone_differs():
    block = load_prompt("yes-no", YesNoBlock)
    one, other = block.classification("Some text.", "what is it"), block.classification("Some text.", "who")
    assert (one.prefix, one.context) == (other.prefix, other.context)
    assert one.context == "Passage: Some text.\nQuery:"
    assert one.tail == " what is it\nIs the passage relevant to the query?"
    assert one.prefix.count("query? Yes\n") == one.prefix.count("query? No\n") == 2
    assert block.label_strings == [" No", " Yes"]


def test_a_reranker_gets_the_prompt_it_was_trained_on():
    block = load_prompt("qwen3-reranker", YesNoBlock)
    # As its model card puts prefix, pair and suffix together.
    assert whole(block.classification("<b> {query}", "what {passage}")) == (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
        "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
        "<Query>: what {passage}\n<Document>: <b> {query}<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    assert block.label_strings == ["no", "yes"]
    one, other = block.classification("a", "b"), block.classification("c", "d")
    assert one.prefix == other.prefix
    assert one.prefix.endswith("answer the query\n")


def test_a_whole_prompt_with_the_passage_first_shares_it_too():
    block = YesNoBlock(instruction="Judge.", full="<s>{instruction}\nDoc {passage} Q  {query}</s>\n", labels=["n", "y"])
    request = block.classification("p", "q")
    assert (request.prefix, request.context, request.tail) == ("<s>Judge.\n", "Doc p Q", "  q</s>\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"template": "Passage: {passage}"}, r"template does not mention \{query\}"),
        ({"full": "Query: {query}"}, r"full does not mention \{passage\}"),
        ({"answer": "yes"}, r"answer does not mention \{label\}"),
        ({"labels": ["Yes", "Yes"]}, "labels: both are 'Yes'"),
        ({"labels": ["No", "Maybe", "Yes"]}, "labels"),
        ({"demonstrations": [{"passage": "a", "query": "b", "label": "no"}]}, "label 'no' is not one of"),
        (
            {"full": "{passage}{query}", "demonstrations": [{"passage": "a", "query": "b", "label": "No"}]},
            "full has none",
        ),
    ],
)
def test_faulty_prompts_are_one_line_before_anything_is_built(tmp_path, content, message):
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(content))
    config = parse_config({"score": {"judges": ["yes-no"], "yes_no": {"prompt": str(path)}}})
    with pytest.raises(ConfigError, match=message) as caught:
        YesNo.check(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "passes"), [({}, 1), ({"blocks": False}, 2), ({"blocks": False, "calibrate": False}, 1)]
)
def test_the_empty_query_costs_a_pass_unless_it_stands_in_the_block(settings, passes):
    assert YesNo.passes(parse_config({"score": settings}).score) == passes


def test_prompt_and_calibration_decide_its_judgements():
    def fingerprint(**score):
        return YesNo.fingerprint(parse_config({"score": score}), Models())

    found = [fingerprint(), fingerprint(calibrate=False), fingerprint(yes_no={"prompt": "qwen3-reranker"})]
    assert len({str(value) for value in found}) == 3


def test_the_packaged_llm_says_yes_to_what_belongs_together(judge, pairs, smollm2):
    margins = []
    for right, query in ((0, "why does sourdough bread taste sour"), (1, "how often do trains go to the coast")):
        values, _ = judge("yes-no", pairs(query), llm=smollm2)
        others = [value for place, value in enumerate(values) if place != right]
        margins.append(values[right] - sum(others) / len(others))
        assert any(abs(16 * value - round(16 * value)) > 0.01 for value in values)  # not rounded to bf16 logits
    assert sum(margins) > 0.05, margins  # a small LLM tells them apart, hardly
