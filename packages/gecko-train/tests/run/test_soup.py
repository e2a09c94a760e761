import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from gecko_core import Gecko
from gecko_core.errors import ConfigError, DataError, ModelError
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
    with pytest.raises(ConfigError, match="1 weights for 2 models; give one per model"):
        soup(two, tmp_path / "x", weights=[1])
    with pytest.raises(ConfigError, match="slerp is between two models, 3 given; use --method linear"):
        soup([*two, two[0]], tmp_path / "x", method="slerp")
    with pytest.raises(ModelError, match="modules"):
        soup([two[0], tmp_path], tmp_path / "x")
    with pytest.raises(ModelError, match="none: no such folder"):
        soup([two[0], tmp_path / "none"], tmp_path / "x")
    other = Gecko.from_backbone(tiny_backbone, dims=(24, 8), device="cpu")
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="its weights differ in name or shape from the first model's; mix one kind"):
        soup([two[0], tmp_path / "other"], tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_equal_shapes_that_mean_something_else_are_not_mixed(two, tmp_path):
    path = two[1] / "config.json"
    config = json.loads(path.read_text())
    for key, value in (("num_attention_heads", 1), ("layer_norm_eps", 0.1), ("hidden_act", "relu")):
        path.write_text(json.dumps(config | {key: value}))
        with pytest.raises(ModelError, match=rf"b: its backbone has {key} .*{value}.*, and the first model's "):
            soup(two, tmp_path / "x")
    path.write_text(json.dumps(config | {"is_matryoshka": None, "matryoshka_dimensions": [3]}))
    soup(two, tmp_path / "noted")  # as a trained model's folder has it, and its start's has not
    tokenizer = two[1] / "tokenizer.json"
    names = json.loads(tokenizer.read_text())
    words = names["model"]["vocab"]
    one, other = list(words)[-2:]
    words[one], words[other] = words[other], words[one]
    tokenizer.write_text(json.dumps(names))
    with pytest.raises(ModelError, match="b: its tokenizer has other words, or other numbers of them"):
        soup(two, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_folders_of_other_libraries_are_mixed(two, tmp_path):
    """Their tensors have a prefix, and some that no model needs."""
    wanted = vector(two[0]) + 1.0
    for number, folder in enumerate(two):
        (folder / "gecko.json").unlink()  # it has the hashes of the weights
        weights = load_file(folder / "model.safetensors")
        more = {"embeddings.position_ids": torch.arange(8)[None], "cls.seq_relationship.weight": torch.ones(2, 32)}
        prefix = "bert." if number else ""
        save_file({prefix + k: v for k, v in (weights | more).items()}, folder / "model.safetensors", {"format": "pt"})
    soup(two, tmp_path / "soup")
    torch.testing.assert_close(vector(tmp_path / "soup"), wanted)
    weights = load_file(two[1] / "model.safetensors")
    path = two[1] / "model.safetensors"
    save_file({name: tensor for name, tensor in weights.items() if "pooler" not in name}, path, {"format": "pt"})
    soup(two, tmp_path / "without")
    assert len(vector(tmp_path / "without")) == len(wanted)


def test_ranges_of_int8_are_not_those_of_the_mix(two, tmp_path):
    model = Gecko.from_pretrained(two[0], device="cpu")
    model.calibrate(["a gecko", "the cat", "a mat"])
    model.save_pretrained(tmp_path / "ranges")
    assert Gecko.from_pretrained(tmp_path / "ranges", device="cpu").calibration
    made = soup([tmp_path / "ranges", two[1]], tmp_path / "soup")
    assert not made.calibration
    assert not Gecko.from_pretrained(tmp_path / "soup", device="cpu").calibration


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1e308, 1e308], "the weights add up to inf; they are scaled to sum to 1"),
        ([0.0, 0.0], "the weights add up to 0; they are scaled to sum to 1"),
        ([1.0, float("nan")], "weight 2 is nan; give a finite number that is not negative"),
        ([float("inf"), 1.0], "weight 1 is inf; give a finite number that is not negative"),
        ([1.0, -0.5], "weight 2 is -0.5; give a finite number that is not negative"),
    ],
)
def test_weights_without_shares_are_refused_before_anything_is_read(tmp_path, weights, message):
    with pytest.raises(ConfigError, match=message):
        soup([tmp_path / "none", tmp_path / "nor this"], tmp_path / "x", weights=weights)
    assert not (tmp_path / "x").exists()


def test_the_largest_and_smallest_weights_that_add_up_keep_their_shares(two, tmp_path):
    for name, weights in (("large", [6e307, 2e307]), ("small", [3e-300, 1e-300])):
        soup(two, tmp_path / name, weights=weights)
        torch.testing.assert_close(vector(tmp_path / name), vector(two[0]) + 0.5)


def test_a_soup_replaces_no_model_unasked_and_never_one_it_is_made_of(two, tmp_path):
    soup(two, tmp_path / "soup")
    before = vector(tmp_path / "soup")
    with pytest.raises(ConfigError, match="soup: exists; choose another name or give --overwrite"):
        soup(two, tmp_path / "soup", weights=[1, 3])
    assert torch.equal(vector(tmp_path / "soup"), before)
    soup(two, tmp_path / "soup", weights=[1, 3], overwrite=True)
    torch.testing.assert_close(vector(tmp_path / "soup"), before + 0.5)
    first = vector(two[0])
    (tmp_path / "link").symlink_to(two[0])
    for out in (two[0], tmp_path / "b" / ".." / "a", tmp_path / "link"):
        for overwrite in (False, True):
            with pytest.raises(ConfigError, match="is an input as well; choose another --out"):
                soup(two, out, overwrite=overwrite)
    (tmp_path / "elsewhere").symlink_to(tmp_path / "none")
    with pytest.raises(DataError, match="is a link, and nothing is written through links"):
        soup(two, tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"holds .*, an input, which would be deleted; choose another --out"):
        soup(two, tmp_path, overwrite=True)
    with pytest.raises(ConfigError, match=r"below: lies in .*a, an input, which would be another model then"):
        soup(two, two[0] / "below", overwrite=True)
    assert torch.equal(vector(two[0]), first)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ConfigError, match="file: exists; choose another name or give --overwrite"):
        soup(two, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    soup(two, tmp_path / "empty")
    torch.testing.assert_close(vector(tmp_path / "empty"), first + 1.0)


@pytest.mark.parametrize("method", ["SLERP", "slrp", 0])
def test_an_unknown_method_is_refused(tmp_path, method):
    with pytest.raises(ConfigError, match=f"unknown method {method!r}; it is one of linear, slerp"):
        soup([tmp_path, tmp_path], tmp_path / "out", method=method)


def test_weights_that_are_a_text_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="weights are numbers, one per folder, not '12'"):
        soup([tmp_path, tmp_path], tmp_path / "out", weights="12")
