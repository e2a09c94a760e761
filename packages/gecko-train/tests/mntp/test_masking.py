import numpy as np
import pytest

from gecko_core.randomness import generator
from gecko_train.config import MntpConfig
from gecko_train.mntp.masking import mask_tokens

MASK, VOCABULARY = 7, 1000


def mask(ids, special=None, seed=0, **settings):
    special = np.zeros(ids.shape, dtype=bool) if special is None else special
    return mask_tokens(ids, special, MntpConfig(**settings), MASK, VOCABULARY, generator("test", seed))


def test_shares_are_those_of_the_config():
    ids = np.full((64, 512), 5000)
    found = mask(ids, probability=0.2)
    assert len(found.targets) / ids.size == pytest.approx(0.2, abs=0.005)
    now = found.ids[found.rows, found.columns]
    assert np.mean(now == MASK) == pytest.approx(0.8, abs=0.02)
    assert np.mean(now == 5000) == pytest.approx(0.1, abs=0.02)
    assert (now < VOCABULARY).sum() == (now != 5000).sum()
    assert (found.targets == 5000).all()
    untouched = np.ones(ids.shape, dtype=bool)
    untouched[found.rows, found.columns] = False
    assert (found.ids[untouched] == 5000).all()
    assert (ids == 5000).all()  # the batch itself stays


def test_all_that_is_hidden_can_be_the_mask_token():
    found = mask(np.full((8, 64), 50), probability=0.8, random=0, kept=0)
    assert (found.ids[found.rows, found.columns] == MASK).all()


def test_neither_the_first_position_nor_special_tokens_are_hidden():
    special = np.zeros((32, 64), dtype=bool)
    special[:, ::3] = True
    found = mask(np.full((32, 64), 50), special, probability=0.9)
    assert found.columns.min() == 1
    assert not special[found.rows, found.columns].any()


def test_at_least_one_token_is_hidden_where_one_may_be():
    for seed in range(20):
        assert len(mask(np.full((1, 3), 50), seed=seed, probability=0.001).targets) == 1
    assert len(mask(np.full((1, 3), 50), np.ones((1, 3), dtype=bool)).targets) == 0
