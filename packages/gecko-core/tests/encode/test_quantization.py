import numpy as np
import pytest
import torch

from gecko_core.encode.quantization import Ranges, checked_dims, dequantize, quantize, ranges_of, stored_width
from gecko_core.errors import ConfigError, DataError, ModelError
from gecko_core.search import top_k


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(200, 24)).astype(np.float32)


def test_int8_loses_at_most_half_a_step(vectors):
    ranges = ranges_of(vectors)
    codes = quantize(vectors, "int8", ranges)
    assert codes.dtype == np.int8
    step = (ranges.highest - ranges.lowest) / 255
    assert (abs(dequantize(codes, ranges) - vectors) <= step * 0.501).all()
    assert codes.min() == -128
    assert codes.max() == 127


def test_int8_clips_what_calibration_did_not_see(vectors):
    ranges = ranges_of(vectors)
    codes = quantize(np.stack([vectors[0] * 0 - 99, vectors[0] * 0 + 99]), "int8", ranges)
    assert (codes[0] == -128).all()
    assert (codes[1] == 127).all()


def test_a_constant_component_is_harmless(vectors):
    vectors[:, 3] = 0.25
    codes = quantize(vectors, "int8", ranges_of(vectors))
    assert (codes[:, 3] == -128).all()


def test_agrees_with_sentence_transformers(vectors):
    quantization = pytest.importorskip("sentence_transformers.quantization")
    theirs = quantization.quantize_embeddings(vectors, "int8", calibration_embeddings=vectors)
    # They cut where we round: one level at most.
    assert abs(quantize(vectors, "int8", ranges_of(vectors)).astype(int) - theirs.astype(int)).max() <= 1
    binary = quantization.quantize_embeddings(vectors, "ubinary")
    assert np.array_equal(quantize(vectors, "binary"), binary)


def test_widths():
    assert stored_width(20, "binary") == (3, np.dtype(np.uint8))
    assert stored_width(20, "int8") == (20, np.dtype(np.int8))


def test_bad_input(vectors):
    with pytest.raises(DataError, match="at least 2"):
        ranges_of(vectors[:1])
    with pytest.raises(DataError, match="not finite"):
        ranges_of(np.array([[1.0, np.nan], [0.0, 1.0]]))
    with pytest.raises(ConfigError, match="calibrate"):
        quantize(vectors, "int8")
    with pytest.raises(ConfigError, match="24 components"):
        quantize(vectors[:, :8], "int8", ranges_of(vectors))
    with pytest.raises(ModelError, match=r"gecko\.json: the calibration is damaged"):
        Ranges.from_json({"lowest": [0.0], "highest": [1.0, 2.0], "texts": 3}, "gecko.json")
    vectors[3, 5] = np.nan
    for precision in ("float32", "int8", "binary"):
        with pytest.raises(DataError, match="row 3 is not finite"):
            quantize(vectors, precision, ranges_of(vectors[:3]))


def test_calibration_is_saved_with_the_model(own, sentences, tmp_path):
    from gecko_core import Gecko

    with pytest.raises(ConfigError, match=r"no int8 ranges for width 32: in Python, call model\.calibrate"):
        own.encode(sentences, precision="int8")
    own.calibrate(sentences)
    expected = own.encode(sentences, precision="int8")
    again = Gecko.from_pretrained(own.save_pretrained(tmp_path / "m"), device="cpu", dtype="float32")
    assert np.array_equal(again.encode(sentences, precision="int8"), expected)
    assert again.encode(sentences, precision="int8", truncate_dim=8).shape == (100, 8)
    assert again.encode(sentences, precision="binary").shape == (100, 4)
    with pytest.raises(ConfigError, match="there are ranges for 32, 8"):
        again.encode(sentences, precision="int8", truncate_dim=16)
    # What int8 is for: neighbours stay neighbours.
    exact = own.similarity(own.encode(sentences), own.encode(sentences))
    restored = dequantize(expected, own.calibration[32])
    assert abs(own.similarity(restored, restored) - exact).max() < 0.05


def test_ranges_go_when_training_begins(own, sentences):
    """They are of weights that are about to change; values beyond them would be clipped without a word."""
    own.calibrate(sentences)
    own.eval()
    assert own.calibration
    own.train()
    own.eval()
    with pytest.raises(ConfigError, match=r"no int8 ranges for width 32: in Python, call model\.calibrate"):
        own.encode(sentences, precision="int8")


def test_dims_are_sorted_and_checked():
    assert checked_dims((8, 32, 8)) == (32, 8)
    assert [type(dim) for dim in checked_dims(np.array([8, 32]))] == [int, int]  # they go into JSON
    for wrong in ((), (0,), (8.0,), (True,), (np.float32(8),), "ab", b"ab", 8, None):
        with pytest.raises(ConfigError, match="dims must be positive whole numbers"):
            checked_dims(wrong)
    with pytest.raises(ConfigError, match="the largest must be the model's own width, 32"):
        checked_dims((64, 8), 32)


@pytest.mark.parametrize("precision", ["int8", "binary"])
def test_quantised_embeddings_are_no_vectors(own, sentences, precision):
    own.calibrate(sentences * 3)
    floats, codes = own.encode(sentences), own.encode(sentences, precision=precision)
    for use in (
        lambda: own.similarity(codes, codes),
        lambda: own.similarity(floats, torch.from_numpy(codes)),
        lambda: own.truncate(codes, 2),
        lambda: top_k(codes, codes, 1),
        lambda: top_k(floats, [codes], 1),
        lambda: quantize(codes, "binary"),
    ):
        with pytest.raises(ConfigError, match=r"u?int8, not of floats; int8 embeddings need `dequantize` first"):
            use()
    for kind in (np.float16, np.float64):
        assert own.similarity(floats.astype(kind), floats).shape == (len(sentences), len(sentences))
