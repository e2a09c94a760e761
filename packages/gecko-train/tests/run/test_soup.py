import json

import pytest
import torch

from gecko_core import Gecko
from gecko_core.errors import ConfigError, ModelError
from gecko_train.run.soup import soup
from gecko_train.run.weights import slerp


@pytest.fixture
def two(tiny_model, tmp_path):
    """Two saved models whose weights differ by 2 everywhere."""
    tiny_model.save_pretrained(tmp_path / "a")
    with torch.no_grad():
        for parameter in tiny_model.parameters():
            parameter.add_(2.0)
    tiny_model.save_pretrained(tmp_path / "b")
    return tmp_path / "a", tmp_path / "b"


def vector(folder):
    model = Gecko.from_pretrained(folder, device="cpu")
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_a_soup_is_the_weighted_mean_and_loads_like_any_model(two, tmp_path):
    made = soup(two, tmp_path / "soup")
    torch.testing.assert_close(vector(tmp_path / "soup"), vector(two[0]) + 1.0)
    assert made.dims == (32, 16)
    soup(two, tmp_path / "quarter", weights=[3, 1])
    torch.testing.assert_close(vector(tmp_path / "quarter"), vector(two[0]) + 0.5)


def test_projections_are_averaged_and_mixed_on_the_sphere(tiny_backbone, tmp_path):
    models = [Gecko.from_backbone(tiny_backbone, dims=(24, 8), device="cpu", seed=seed) for seed in (0, 1)]
    folders = [tmp_path / "a", tmp_path / "b"]
    for model, folder in zip(models, folders, strict=True):
        model.save_pretrained(folder)
    heads = [model.head[0].linear.weight.detach() for model in models]
    made = soup(folders, tmp_path / "linear", weights=[1, 3])
    torch.testing.assert_close(made.head[0].linear.weight.detach(), heads[0] * 0.25 + heads[1] * 0.75)
    made = soup(folders, tmp_path / "slerp", weights=[1, 3], method="slerp")
    expected = slerp(heads[0].double(), heads[1].double(), 0.75).float()
    assert torch.equal(made.head[0].linear.weight.detach(), expected)
    again = Gecko.from_pretrained(tmp_path / "slerp", device="cpu")
    assert torch.equal(again.head[0].linear.weight.detach(), expected)
    assert again.dims == (24, 8)
    assert json.loads((tmp_path / "slerp" / "gecko.json").read_text())["record"]["method"] == "slerp"
    config = tmp_path / "b" / "2_Dense" / "config.json"
    config.write_text(
        config.read_text().replace("torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Tanh")
    )
    with pytest.raises(ModelError, match="b: its projection has another activation than the first model's"):
        soup(folders, tmp_path / "x")


def test_what_cannot_be_mixed_is_one_error_line(two, tiny_backbone, tmp_path):
    with pytest.raises(ConfigError, match="at least two"):
        soup(two[:1], tmp_path / "x")
    with pytest.raises(ConfigError, match="one per model"):
        soup(two, tmp_path / "x", weights=[1])
    with pytest.raises(ConfigError, match="slerp is between two models, 3 given; use --method linear"):
        soup([*two, two[0]], tmp_path / "x", method="slerp")
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        soup([two[0], tmp_path], tmp_path / "x")
    other = Gecko.from_backbone(tiny_backbone, dims=(24, 8), device="cpu")
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="its weights differ in name or shape from the first model's; mix one kind"):
        soup([two[0], tmp_path / "other"], tmp_path / "x")
    assert not (tmp_path / "x").exists()
