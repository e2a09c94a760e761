import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gecko_core import Gecko
from gecko_core.errors import ModelError
from gecko_core.head import projection


def test_projection_keeps_lengths_when_it_widens():
    layer = projection(16, 24)
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x).norm(dim=1), x.norm(dim=1))


def test_projection_depends_on_its_seed_only():
    assert torch.equal(projection(8, 4, seed=1).linear.weight, projection(8, 4, seed=1).linear.weight)
    assert not torch.equal(projection(8, 4, seed=1).linear.weight, projection(8, 4, seed=2).linear.weight)


def test_a_head_is_saved_and_read_by_sentence_transformers(backbone_folder, sentences, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    gecko = Gecko.from_backbone(backbone_folder("bert"), dims=(48, 12), device="cpu", dtype="float32")
    assert (gecko.dim, gecko.hidden_size, len(gecko.head)) == (48, 32, 1)
    folder = gecko.save_pretrained(tmp_path / "m")
    assert {"2_Dense", "3_Normalize"} <= {path.name for path in folder.iterdir()}
    expected = gecko.encode(sentences)
    again = Gecko.from_pretrained(folder, device="cpu", dtype="float32")
    assert np.array_equal(again.encode(sentences), expected)
    assert again.weights_hash() == gecko.weights_hash()
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(sentences)
    assert (theirs * expected).sum(axis=1).min() > 0.9999


def test_tanh_head_of_others(minilm_folder, sentences, tmp_path):
    """A Dense with bias and tanh, written by sentence-transformers in its newest schema."""
    models = pytest.importorskip("sentence_transformers.models")
    from sentence_transformers import SentenceTransformer

    torch.manual_seed(0)
    parts = [models.Transformer(str(minilm_folder)), models.Pooling(384), models.Dense(384, 32)]
    theirs = SentenceTransformer(modules=parts, device="cpu")
    theirs.save(str(tmp_path / "st"))
    ours = Gecko.from_pretrained(tmp_path / "st", device="cpu", dtype="float32")
    expected = theirs.encode(sentences, normalize_embeddings=True)
    assert ours.dim == 32
    assert (ours.encode(sentences) * expected).sum(axis=1).min() > 0.9999


def test_weights_that_contradict_their_config(backbone_folder, tmp_path):
    gecko = Gecko.from_backbone(backbone_folder("bert"), dims=(48,), device="cpu")
    path = gecko.save_pretrained(tmp_path / "m") / "2_Dense" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "out_features": 40}))
    settings = tmp_path / "m" / "gecko.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "dims": [40]}))
    with pytest.raises(ModelError, match=r"its config\.json says"):
        Gecko.from_pretrained(tmp_path / "m")


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool])
def test_codes_are_no_weights_of_a_projection(backbone_folder, tmp_path, dtype):
    gecko = Gecko.from_backbone(backbone_folder("bert"), dims=(48, 12), device="cpu", dtype="float32")
    folder = gecko.save_pretrained(tmp_path / "m")
    path = folder / "2_Dense" / "model.safetensors"
    save_file({name: (value * 9).to(dtype) for name, value in load_file(path).items()}, path)
    with pytest.raises(
        ModelError, match=r"2_Dense.model\.safetensors: linear\.weight is of .* codes of a quantised model"
    ):
        Gecko.from_pretrained(folder, device="cpu")
