import pytest
import torch

from gecko_core import Gecko
from gecko_core.errors import ConfigError, ModelError
from gecko_train.run.soup import soup


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


def test_what_cannot_be_mixed_is_one_error_line(two, tmp_path):
    with pytest.raises(ConfigError, match="at least two"):
        soup(two[:1], tmp_path / "x")
    with pytest.raises(ConfigError, match="one per model"):
        soup(two, tmp_path / "x", weights=[1])
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        soup([two[0], tmp_path], tmp_path / "x")
