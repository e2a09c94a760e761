import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gecko_core.encode import batches as encoding
from gecko_core.encode.batches import plan_batches
from gecko_core.errors import ConfigError, ModelError


@given(st.lists(st.integers(1, 100), max_size=60), st.integers(1, 300))
def test_plan_covers_every_row_once_within_the_budget(lengths, budget):
    array = np.array(lengths, dtype=np.int64)
    batches = plan_batches(array, budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    widths = [array[batch].max() for batch in batches]
    assert widths == sorted(widths, reverse=True)
    assert all(len(batch) == 1 or len(batch) * width <= budget for batch, width in zip(batches, widths, strict=True))


def groups(batches):
    return [batch.tolist() for batch in batches]


def test_equal_lengths_keep_their_order():
    assert groups(plan_batches([3, 5, 3, 5, 3], 10)) == [[1, 3], [0, 2, 4]]


def test_plan_takes_at_most_so_many_rows():
    assert groups(plan_batches([2, 2, 2, 2, 2], 100, max_rows=2)) == [[0, 1], [2, 3], [4]]
    assert groups(plan_batches([9, 2, 2, 2], 4, max_rows=2)) == [[0], [1, 2], [3]]


def test_plan_without_padding_counts_tokens():
    assert groups(plan_batches([4, 1, 2, 1], 5, padded=False)) == [[0], [2, 1, 3]]
    assert groups(plan_batches([4, 1, 2, 1], 5, padded=False, longest_first=False)) == [[0, 1], [2, 3]]


def test_plan_in_the_given_order():
    assert groups(plan_batches([1, 1, 4, 1, 9], 4, longest_first=False)) == [[0, 1], [2], [3], [4]]


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 200), st.integers(1, 8), st.integers(1, 9))
def test_plan_is_the_greedy_one(lengths, budget, most, extra):
    """By definition: row after row, longest first, into the batch at hand while it fits."""
    expected, width = [], 0
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if not expected or (len(expected[-1]) + 1) * width > budget or len(expected[-1]) == most:
            expected.append([])
            width = lengths[row] + extra
        expected[-1].append(row)
    assert groups(plan_batches([length + extra for length in lengths], budget, max_rows=most)) == expected


def test_order_is_restored(tiny, sentences):
    together = tiny.encode(sentences)
    alone = np.concatenate([tiny.encode([text]) for text in sentences[:20]])
    assert abs(together[:20] - alone).max() < 1e-6


def test_the_same_texts_give_the_same_bytes(tiny, sentences):
    assert tiny.encode(sentences).tobytes() == tiny.encode(sentences).tobytes()


@pytest.mark.parametrize("budget", [1, 37, 10_000])
def test_any_budget_gives_the_same_vectors(tiny, sentences, budget):
    assert abs(tiny.encode(sentences, batch_tokens=budget) - tiny.encode(sentences)).max() < 1e-6


def test_windows_give_the_same_vectors(tiny, sentences, monkeypatch):
    whole = tiny.encode(sentences)
    monkeypatch.setattr(encoding, "WINDOW", 7)
    assert abs(tiny.encode(sentences) - whole).max() < 1e-6


def test_truncation_normalises_again(tiny, sentences):
    short = tiny.encode(sentences, truncate_dim=8)
    assert short.shape == (100, 8)
    assert abs(np.linalg.norm(short, axis=1) - 1).max() < 1e-6
    assert abs(short - tiny.truncate(tiny.encode(sentences), 8)).max() < 1e-6


@pytest.mark.parametrize("wrong", [0, -1, 33, 8.0, True, "8"])
def test_wrong_truncate_dim(tiny, wrong):
    with pytest.raises(ConfigError, match="truncate_dim must be a whole number from 1 to 32"):
        tiny.encode(["a gecko"], truncate_dim=wrong)


@pytest.mark.parametrize(
    ("option", "value"), [("batch_tokens", 0), ("output", "list"), ("precision", "int4"), ("devices", ["gpu?"])]
)
def test_wrong_options(tiny, option, value):
    with pytest.raises(ConfigError):
        tiny.encode(["a gecko"], **{option: value})


def test_nothing_gives_an_empty_array(tiny):
    assert tiny.encode([]).shape == (0, 32)
    assert tiny.encode([], truncate_dim=8, output="torch").shape == (0, 8)
    assert tiny.encode([], precision="binary").shape == (0, 4)


def test_empty_and_strange_texts_have_a_vector(tiny):
    texts = ["", " ", "\ud800", "\x00", "gecko " * 200_000, "x" * 1_000_000]
    vectors = tiny.encode(texts)
    assert np.isfinite(vectors).all()
    assert abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
    # The rest of a long text is cut off.
    assert abs(vectors[4] - tiny.encode(["gecko " * 100])[0]).max() < 1e-6


def test_torch_output(tiny, sentences):
    found = tiny.encode(sentences, output="torch")
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert np.array_equal(found.numpy(), tiny.encode(sentences))


def test_progress_counts_texts(tiny, sentences, capsys):
    tiny.encode(sentences, progress=True)
    first, last = capsys.readouterr().err.splitlines()  # no terminal: plain lines
    assert first.split() == ["encoding", "100", "texts"]
    assert last.split()[:4] == ["encoding", "done,", "100", "texts"]


def test_training_mode_is_restored_and_dropout_is_off(own, sentences):
    expected = own.encode(sentences)
    own.train()
    assert np.array_equal(own.encode(sentences), expected)
    assert own.training


def test_torch_output_can_be_trained_on(tiny):
    weight = torch.ones(32, requires_grad=True)
    (tiny.encode(["a gecko"], output="torch") * weight).sum().backward()
    assert weight.grad is not None


def test_vectors_that_are_not_finite_are_an_error(own):
    with torch.no_grad():
        next(own.parameters())[5] = float("nan")  # the word "gecko"
    with pytest.raises(ModelError, match="row 1: the embedding is not finite"):
        own.encode(["lizard", "gecko"])


def test_one_text_gives_one_vector(tiny):
    assert np.array_equal(tiny.encode("a gecko"), tiny.encode(["a gecko"])[0])
    assert np.array_equal(tiny.encode_queries("a gecko"), tiny.encode_queries(["a gecko"])[0])
    assert np.array_equal(tiny.encode_documents("a", "gecko"), tiny.encode_documents(["a"], ["gecko"])[0])


@pytest.mark.parametrize("batch_tokens", [0, -1, 10**23])
def test_batch_tokens_are_bounded(tiny, batch_tokens):
    with pytest.raises(ConfigError, match="batch_tokens must be at least 1 and at most 2,147,483,647"):
        tiny.encode(["a gecko"], batch_tokens=batch_tokens)


def test_encoding_leaves_every_module_in_its_mode(own):
    expected = own.encode(["a gecko"])
    own.train()
    own.backbone.embeddings.eval()
    before = {name: module.training for name, module in own.named_modules()}
    assert abs(own.encode(["a gecko"]) - expected).max() < 1e-6  # without dropout
    assert {name: module.training for name, module in own.named_modules()} == before


@pytest.mark.parametrize("bias", [0.0, 1e30])
def test_vectors_without_a_direction_are_an_error(own, bias):
    """Zeros came out as they were, and a vector too long for float32 as zeros."""
    last = own.backbone.encoder.layer[-1].output.LayerNorm
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(bias)
    with pytest.raises(ModelError, match=r"row 0: the embedding is zero, or too long for float32: the model's weights"):
        own.encode(["a gecko", "another"])
