import io

import pytest
import torch
from rich.console import Console
from torch import nn

from gecko_core import Gecko
from gecko_core.errors import ConfigError
from gecko_train.config import ObjectiveConfig, TrainerConfig
from gecko_train.data.mixture import Mixture
from gecko_train.data.rows import Document, RowSet, TrainingRow
from gecko_train.data.texts import batch_texts
from gecko_train.loop.dropout import attention_dropout
from gecko_train.loop.grad_cache import backward_through_batch
from gecko_train.loop.trainer import Trainer
from gecko_train.loss.objective import Objective

WORDS = "abcdefghijklmnop"


@pytest.fixture
def model(language_model):
    return Gecko.from_backbone(language_model(), dims=(32,), device="cpu", dtype=torch.float32)


def pairs(count):
    texts = [" ".join(WORDS[(start + step) % 16] for step in range(5)) for start in range(count)]
    return [TrainingRow("t", text, Document(text), symmetric=True) for text in texts]


def test_it_holds_in_training_alone_and_goes_away(model, tiny_model):
    rows = model.tokenize(["a b c d", "e f g h"])
    for each in (model, tiny_model):
        shares = [m.p for m in each.modules() if isinstance(m, nn.Dropout)]
        with attention_dropout(each, 0.3):
            pass
        assert shares == [m.p for m in each.modules() if isinstance(m, nn.Dropout)]
    with torch.no_grad():
        plain = model(rows=rows)
        with attention_dropout(model, 0.3):
            assert torch.equal(model(rows=rows), plain)
            model.train()
            assert not torch.allclose(model(rows=rows), plain, rtol=1e-2)
        # In training mode, whose attention may be computed in another way.
        torch.testing.assert_close(model(rows=rows), plain)
        with attention_dropout(model, None):
            torch.testing.assert_close(model(rows=rows), plain)  # a language model has none of its own


def test_a_backbone_without_any_is_refused():
    with pytest.raises(ConfigError, match="knows no dropout"), attention_dropout(nn.Linear(2, 2), 0.1):
        pass


@pytest.mark.parametrize("groups", [[range(8)], [range(4), range(4, 8)], [[place] for place in range(8)]])
@pytest.mark.parametrize("packed", [True, False])
def test_the_two_sides_of_a_text_differ_and_caching_repeats_both(model, groups, packed):
    model.padding_free = packed
    texts = batch_texts(pairs(4), model, 1)
    tokens = model.tokenize(texts.texts)
    assert len(tokens) == 8
    seen = []

    def embed(group):
        found = model(rows=[tokens[place] for place in group])
        seen.append(found.detach())
        return found

    model.train()
    with attention_dropout(model, 0.3):
        backward_through_batch(groups, embed, lambda vectors: vectors.square().sum(), seed=5, cache=True)
    first = torch.cat(seen[: len(groups)])
    assert (first[texts.queries] - first[texts.documents[:, 0]]).abs().amax(1).min() > 1e-3
    if len(groups) > 1:  # one micro-batch is computed once
        assert torch.equal(torch.cat(seen[len(groups) :]), first)


def test_simcse_in_the_trainer(model, tmp_path):
    rows = RowSet.from_rows("texts", pairs(16))
    config = TrainerConfig(
        batch_size=8, max_steps=4, precision="fp32", attention_dropout=0.3, micro_batch_tokens=64, learning_rate=1e-3
    )
    objective = Objective(ObjectiveConfig(temperature=0.05, hard_negatives=0, same_tower=False), model.dims)
    quiet = Console(file=io.StringIO())
    summary = Trainer(model, Mixture([rows], batch_size=8), [objective], config, tmp_path, console=quiet).train()
    assert summary.first_loss > 1e-3
    tokens = len(model.tokenize(model.format_queries(["a b c d e"], "t"))[0])
    assert summary.tokens == 4 * 8 * 2 * tokens  # every text twice
    assert all(module.attention_dropout == 0 for module in model.modules() if hasattr(module, "attention_dropout"))
