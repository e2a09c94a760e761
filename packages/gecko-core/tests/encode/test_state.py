import copy

import pytest
import torch
from torch import nn

from gecko_core.encode.state import weights_state


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 48), nn.LayerNorm(48), nn.Linear(48, 5)).to(torch.float32)


def test_the_same_while_nothing_changes(model):
    assert weights_state(model) == weights_state(model)
    with torch.inference_mode():
        assert weights_state(model) == weights_state(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "change",
    [
        lambda weight: weight.data.mul_(2),
        lambda weight: weight.data[:, 1:].zero_(),
        lambda weight: weight.data[:, :23].zero_(),
        lambda weight: weight.data[1:].zero_(),
        lambda weight: weight.data[:47].zero_(),
        lambda weight: weight.detach().mul_(2),
    ],
)
def test_a_change_in_place(change, dtype, model):
    model = model.to(dtype)
    before = weights_state(model)
    change(model[0].weight)
    assert weights_state(model) != before


@pytest.mark.parametrize("place", [0, 1, 2])
def test_biases_and_norms(place, model):
    before = weights_state(model)
    model[place].bias.data += 1
    assert weights_state(model) != before


def test_another_weight_of_the_same_numbers_is_another(model):
    before = weights_state(model)
    model[0].weight = nn.Parameter(model[0].weight.detach().clone())
    assert weights_state(model) != before
    assert weights_state(copy.deepcopy(model)) != weights_state(model)


def test_odd_weights():
    odd = nn.ParameterList(
        [torch.zeros(()), torch.zeros(0, 3), torch.zeros(3, 7).t(), torch.zeros(1, 1), torch.zeros(9, 9)[:, :5]]
    )
    for changed in (odd[0], odd[2], odd[3], odd[4]):
        before = weights_state(odd)
        changed.data += 1
        assert weights_state(odd) != before
