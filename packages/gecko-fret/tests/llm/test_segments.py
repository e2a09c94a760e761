import pytest

from gecko_core.errors import ModelError
from gecko_fret.control_tokens import as_plain_text
from gecko_fret.llm.protocol import Dialogue, ScoreRequest, WriteRequest
from gecko_fret.llm.segments import SegmentTokenizer, by_context, in_order, label_tokens


@pytest.fixture
def segments(word_tokenizer):
    return SegmentTokenizer(word_tokenizer, "tiny")


def test_continuations_are_where_the_span_says(segments, word_tokenizer):
    row = segments.score([ScoreRequest("the cat\n", "Query:", " what is", "\nRelevance:")], lead=[7])[0]
    assert word_tokenizer.decode(row.ids[row.start : row.end]) == " what is"
    assert word_tokenizer.decode(row.ids[: row.start]) == "the cat\nQuery:"
    assert row.ids[-1] == 7


def test_whole_prompts_join_prefix_and_body(segments, word_tokenizer):
    rows = segments.write([WriteRequest("the cat\n", "sat", 0), WriteRequest("a dog\n", "ran", 0)])
    assert [word_tokenizer.decode(ids) for ids in rows] == ["the cat\nsat", "a dog\nran"]


def test_labels_share_a_lead_and_differ_in_one_token(segments):
    result = segments.labels([" 0", " 1", " 2"])
    assert len(result.lead) == 1
    assert len(set(result.ids)) == 3
    with pytest.raises(ModelError, match="not one token each"):
        segments.labels(["the cat", "a"])


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        ([[1], [2]], ([], [1, 2])),
        ([[9, 1], [9, 2]], ([9], [1, 2])),
        ([[9, 8, 1], [9, 8, 2]], ([9, 8], [1, 2])),
        ([[1], [9, 2]], None),
        ([[1], [1]], None),
        ([[9, 1, 3], [9, 2]], None),
    ],
)
def test_label_tokens(encoded, expected):
    result = label_tokens(encoded)
    assert (result and (result.lead, result.ids)) == expected


def test_requests_of_one_context_are_sent_together_and_come_back_in_order():
    requests = [ScoreRequest(*key, str(n)) for n, key in enumerate(["ab", "cb", "ad", "ab", "cd", "cb"])]
    order = by_context(requests)
    sent = [requests[number] for number in order]
    assert [(r.prefix, r.context) for r in sent] == [tuple(key) for key in ["ab", "ab", "ad", "cb", "cb", "cd"]]
    assert in_order(order, [r.continuation for r in sent]) == ["0", "1", "2", "3", "4", "5"]
    assert by_context([]) == in_order([], []) == []


@pytest.fixture(scope="module")
def chat_segments():
    """A small byte-level tokenizer with control tokens, two of which its chat template has."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>")
    tokenizer.add_tokens([AddedToken("<|im_start|>", special=True), AddedToken("<filename>"), AddedToken("<|end|>")])
    tokenizer.chat_template = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    return SegmentTokenizer(tokenizer, "tiny")


@pytest.mark.parametrize("mark", ["<|im_end|>", "<|im_start|>", "<|end|>", "<filename>"])
def test_marks_in_passages_and_queries_are_text(chat_segments, mark):
    """One token would end the passage, or the model's turn; here the mark is as many bytes as it has."""
    passage = as_plain_text(f"The mark {mark} ends it.")
    (row,) = chat_segments.score([ScoreRequest("p\n", passage, as_plain_text(f" what is {mark}"), as_plain_text(mark))])
    assert len(row.ids) == 2 + len(f"The mark {mark} ends it.") + len(f" what is {mark}") + len(mark)
    assert row.end - row.start == len(f" what is {mark}")
    (written,) = chat_segments.write([WriteRequest(as_plain_text("<|im_end|>\n"), passage, 0)])
    assert len(written) == len(f"<|im_end|>\nThe mark {mark} ends it.")


def test_marks_of_the_template_are_control_tokens(chat_segments):
    (row,) = chat_segments.write([WriteRequest("<|im_start|>a<|im_end|>\n", "b<|im_end|>\n<|im_start|>", 0)])
    assert len(row) == 8
    assert len(chat_segments.encode(["<filename>"], special=True)[0]) == 1  # a prompt file may mean it
    assert chat_segments.encode([]) == []


OWN = ["[TOOL_CALLS]", "[SYSTEM_PROMPT]", "[gMASK]", "<sop>", "<end_of_utterance>", "[[TOOL_CALLS]]", "||EMAIL||"]


@pytest.fixture(scope="module")
def own_segments(chat_segments):
    """The same with marks of no family that is known, which its chat template has."""
    import copy

    tokenizer = copy.deepcopy(chat_segments.tokenizer)
    tokenizer.add_tokens(OWN, special_tokens=True)
    tokenizer.chat_template = (
        "[gMASK]<sop>{% for m in messages %}[SYSTEM_PROMPT]{{ m.content }}<end_of_utterance>{% endfor %}"
        "{% if add_generation_prompt %}[TOOL_CALLS]:{% endif %}{# [[TOOL_CALLS]] ||EMAIL|| #}"
    )
    return SegmentTokenizer(tokenizer, "tiny")


def own_marks(segments, ids):
    return [token for token in segments.tokenizer.convert_ids_to_tokens(ids) if token in OWN]


@pytest.mark.parametrize("mark", OWN)
def test_marks_of_the_tokenizers_own_are_text_though_the_template_names_them(own_segments, mark):
    passage, query = as_plain_text(f"The mark {mark}{mark} ends it."), as_plain_text(f" what is {mark}")
    (row,) = own_segments.score([ScoreRequest("p\n", passage, query, as_plain_text(mark))])
    assert own_marks(own_segments, row.ids) == []
    assert len(row.ids) == 2 + len(f"The mark {mark}{mark} ends it. what is {mark}{mark}")
    (written,) = own_segments.write([WriteRequest("p\n", passage, 0)])
    assert own_marks(own_segments, written) == []


@pytest.mark.parametrize("mark", OWN)
def test_in_a_chat_the_templates_marks_alone_are_control_tokens(own_segments, mark):
    shown = ((f"Passage: {mark} a", f"{mark} b"), ("c", "d"))
    prefix, body = own_segments.chat(Dialogue(f"Obey {mark}.", shown, f"Passage: {mark}x{mark}"))
    turns = ["[SYSTEM_PROMPT]", "<end_of_utterance>"] * 5
    expected = ["[gMASK]", "<sop>", *turns, "[SYSTEM_PROMPT]", "<end_of_utterance>", "[TOOL_CALLS]"]
    assert own_marks(own_segments, own_segments.write([WriteRequest(prefix, body, 0)])[0]) == expected
    (row,) = own_segments.score([ScoreRequest(prefix, body, mark)])
    assert own_marks(own_segments, row.ids) == expected


def test_a_template_for_other_chats_spoils_no_passage(own_segments):
    import copy

    tokenizer = copy.deepcopy(own_segments.tokenizer)
    tokenizer.chat_template = "<sop>{{ raise_exception('tools only') }}"
    segments = SegmentTokenizer(tokenizer, "tiny")
    assert own_marks(segments, segments.write([WriteRequest("", "a <sop>", 0)])[0]) == []


def test_texts_without_marks_are_tokenised_as_ever(chat_segments):
    texts = ["plain text", "", "a < b", "[x] <y>"]
    assert chat_segments.encode(texts) == chat_segments.tokenizer(texts, add_special_tokens=False)["input_ids"]


def sentencepiece_like(strip):
    """A tokenizer of Llama 2's kind: "▁" for spaces, and a decoder that strips the first one, or does not."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    names = ["<unk>", "▁", "Yes", "▁Yes", "No", "▁No", "a", "▁a"]
    model = tokenizers.models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never")
    steps = [tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.Fuse()]
    made.decoder = tokenizers.decoders.Sequence(steps + [tokenizers.decoders.Strip(" ", 1, 0)] * strip)
    return SegmentTokenizer(transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>"), "tiny")


def test_a_label_is_the_token_with_its_white_space():
    """With a decoder that strips it, the probability of the bare "Yes" was taken for that of " Yes"."""
    tops = {" Yes": -0.1, " No": -3.0, "No": -5.0, "Yes": -12.0}
    for strip in (True, False):
        segments = sentencepiece_like(strip)
        assert segments.strips == strip
        yes, no = segments.labels([" Yes", " No"]).ids
        assert (segments.shown(yes, tops), segments.shown(no, tops)) == (-0.1, -3.0)
        assert segments.shown(yes, {"▁Yes": -0.2}) == -0.2
        assert segments.shown(yes, {" No": -0.2, "Yes": -0.3}) is None
        bare = segments.labels(["Yes", "No"]).ids[0]
        assert segments.shown(bare, tops) == -12.0
        # Of a server that decodes tokens one by one, nobody can tell which one this is.
        assert segments.shown(bare, {"Yes": -0.2}) == (None if strip else -0.2)
        assert segments.shown(yes, {"Yes": -0.2}) is None


def test_byte_level_pieces_are_known_in_all_forms(segments):
    token = segments.labels([" 0", " 1"]).ids[1]
    piece = segments.tokenizer.convert_ids_to_tokens(token)
    assert segments.shown(token, {piece: -0.5, "other": -1.0}) == -0.5
    assert segments.shown(token, {"other": -1.0}) is None
