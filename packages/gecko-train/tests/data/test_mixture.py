from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gecko_core.errors import ConfigError
from gecko_train.data.mixture import Mixture, distinct


@dataclass
class Ids:
    """A set as the plan sees it."""

    name: str
    query_ids: np.ndarray
    positive_ids: np.ndarray = field(default=None)

    def __post_init__(self):
        self.query_ids = np.asarray(self.query_ids)
        self.positive_ids = np.asarray(self.query_ids if self.positive_ids is None else self.positive_ids)

    def __len__(self):
        return len(self.query_ids)


def unique(name, size):
    return Ids(name, np.arange(size))


@st.composite
def sets(draw):
    row_sets = []
    for number in range(draw(st.integers(1, 4))):
        size = draw(st.integers(1, 60))
        queries = draw(st.lists(st.integers(0, 40), min_size=size, max_size=size))
        passages = draw(st.lists(st.integers(0, 40), min_size=size, max_size=size))
        row_sets.append(Ids(f"set{number}", queries, passages))
    return row_sets


@settings(max_examples=80, deadline=None)
@given(sets(), st.integers(2, 12), st.integers(0, 5), st.integers(1, 9))
def test_a_batch_is_of_one_set_and_repeats_no_query_and_no_passage(row_sets, batch_size, seed, steps):
    mixture = Mixture(row_sets, batch_size=batch_size, seed=seed, steps_per_epoch=steps)
    for epoch in (0, 3):
        for step in range(steps):
            batch = mixture.batch(epoch, step)
            row_set = row_sets[batch.set_index]
            assert 1 <= len(batch.indices) <= batch_size
            assert batch.indices.min() >= 0
            assert batch.indices.max() < len(row_set)
            assert len(set(row_set.query_ids[batch.indices])) == len(batch.indices)
            assert len(set(row_set.positive_ids[batch.indices])) == len(batch.indices)
            texts = Counter()
            for index in batch.indices:
                texts.update({row_set.query_ids[index], row_set.positive_ids[index]})
            assert max(texts.values()) == 1  # nor a query that is another row's passage


@settings(max_examples=40, deadline=None)
@given(sets(), st.integers(2, 12), st.integers(0, 5))
def test_the_plan_is_a_function_of_seed_epoch_and_step(row_sets, batch_size, seed):
    mixture, other = (Mixture(row_sets, batch_size=batch_size, seed=seed) for _ in range(2))
    forwards = [mixture.at(step).indices for step in range(2 * mixture.steps_per_epoch)]
    backwards = [other.at(step).indices for step in reversed(range(2 * other.steps_per_epoch))][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(a, b)
    assert mixture.fingerprint == other.fingerprint
    assert mixture.fingerprint != Mixture(row_sets, batch_size=batch_size, seed=seed + 1).fingerprint


@settings(max_examples=40, deadline=None)
@given(sets(), st.integers(4, 12))
def test_slices_of_any_world_size_are_the_global_batch(row_sets, batch_size):
    mixture = Mixture(row_sets, batch_size=batch_size)
    batch = mixture.at(0)
    for world_size in (1, 2, 4):
        slices = [batch.slice(rank, world_size) for rank in range(world_size)]
        np.testing.assert_array_equal(np.concatenate(slices), batch.indices)
        assert max(map(len, slices)) - min(map(len, slices)) <= 1


def test_an_epoch_shows_every_row_at_most_once_and_misses_less_than_a_batch():
    mixture = Mixture([unique("a", 103), unique("b", 50)], batch_size=10)
    assert mixture.steps_per_epoch == 15
    for epoch in range(3):
        seen = [Counter(), Counter()]
        for step in range(mixture.steps_per_epoch):
            batch = mixture.batch(epoch, step)
            seen[batch.set_index].update(batch.indices.tolist())
        assert max(seen[0].values()) == 1
        assert max(seen[1].values()) == 1
        assert len(seen[0]) >= 100
        assert len(seen[1]) >= 40


def test_rows_postponed_for_a_repeat_come_in_a_later_batch_of_the_pass():
    # 40 passages, each the positive of two queries: a pass over 80 rows is possible without loss.
    mixture = Mixture([Ids("a", np.arange(80), 100 + np.arange(80) // 2)], batch_size=8)
    seen = Counter()
    for step in range(mixture.steps_per_epoch):
        seen.update(mixture.at(step).indices.tolist())
    assert mixture.steps_per_epoch == 10
    assert len(seen) >= 72
    assert max(seen.values()) <= 2


@pytest.mark.parametrize("layout", ["mirror", "chain"])
def test_a_query_is_kept_apart_from_the_row_whose_passage_it_is(layout):
    """Pairs (A, B) and (B, A), or (A, B) and (B, C): beside each other, A's own text would be a negative of A."""
    first = np.arange(0, 80, 2)
    queries, passages = np.arange(80), np.arange(80) + 1
    if layout == "mirror":
        queries, passages = np.concatenate([first, first + 1]), np.concatenate([first + 1, first])
    mixture = Mixture([Ids("a", queries, passages)], batch_size=8)
    for epoch in range(3):
        seen = Counter()
        for step in range(mixture.steps_per_epoch):
            rows = mixture.batch(epoch, step).indices
            assert len(rows) == 8
            assert not set(queries[rows]) & set(passages[rows])
            seen.update(rows.tolist())
        assert len(seen) >= 72  # as with any repeat, less than a batch waits at the end of the epoch
        assert max(seen.values()) <= 2


def as_before(query_ids, positive_ids, limit):
    """The plan without a look at queries that are passages."""
    kept, left = np.empty(0, dtype=np.int64), np.arange(len(query_ids))
    while len(left) and len(kept) < limit:
        new = np.zeros((2, len(left)), dtype=bool)
        for side, ids in zip(new, (query_ids, positive_ids), strict=True):
            side[np.unique(ids[left], return_index=True)[1]] = True
        chosen = left[new.all(0)]
        kept = np.sort(np.concatenate([kept, chosen]))
        left = left[~(np.isin(query_ids[left], query_ids[chosen]) | np.isin(positive_ids[left], positive_ids[chosen]))]
    return kept[:limit]


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(100, 120))), st.lists(st.integers(200, 210)), st.integers(1, 30)
)
def test_sets_without_such_texts_have_the_batches_that_they_had(pairs, alone, limit):
    """Texts that are their own passage, as SimCSE has them, among others."""
    ids = np.array([*pairs, *((text, text) for text in alone)], dtype=np.int64).reshape(-1, 2)
    ids = np.random.default_rng(0).permutation(ids)
    np.testing.assert_array_equal(distinct(ids[:, 0], ids[:, 1], limit), as_before(ids[:, 0], ids[:, 1], limit))


def test_batches_follow_the_weights_to_within_a_step_and_alpha():
    row_sets = [unique("big", 900), unique("small", 100)]
    counts = np.bincount(Mixture(row_sets, batch_size=10, steps_per_epoch=100).schedule(0), minlength=2)
    assert counts.tolist() == [90, 10]
    counts = np.bincount(Mixture(row_sets, batch_size=10, steps_per_epoch=100, alpha=0.5).schedule(0), minlength=2)
    assert counts.tolist() == [75, 25]
    mixture = Mixture(row_sets, batch_size=10, steps_per_epoch=7, weights={"big": 1, "small": 2})
    for epoch in range(5):
        assert np.bincount(mixture.schedule(epoch), minlength=2).tolist() in ([2, 5], [3, 4])


def test_a_set_with_a_share_below_one_step_gets_its_turn_in_some_epoch():
    mixture = Mixture([unique("big", 980), unique("tiny", 20)], batch_size=10, steps_per_epoch=5)
    turns = sum(int((mixture.schedule(epoch) == 1).sum()) for epoch in range(400))
    assert 10 <= turns <= 80  # expected 40 of 2000 steps


def test_a_small_set_gives_all_it_has():
    batch = Mixture([Ids("a", [1, 2, 3, 3], [1, 2, 3, 4])], batch_size=16).at(0)
    assert len(batch.indices) == 3


def test_distinct_is_maximal_and_keeps_the_first():
    queries, passages = np.array([1, 1, 2, 3]), np.array([5, 6, 5, 7])
    assert distinct(queries, passages, limit=10).tolist() == [0, 3]
    assert distinct(queries, passages, limit=1).tolist() == [0]
    queries, passages = np.array([1, 2, 3, 3]), np.array([2, 4, 3, 1])
    assert distinct(queries, passages, limit=10).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sets": []}, "has no sets"),
        ({"sets": [unique("a", 4), unique("a", 4)]}, "names a set twice"),
        ({"sets": [unique("a", 4)], "weights": {"b": 1}}, "no set is called 'b'"),
        ({"sets": [unique("a", 4), unique("b", 4)], "weights": {"a": 1}}, "none for set 'b'"),
        ({"sets": [unique("a", 4)], "weights": {"a": -1}}, "none must be negative"),
        ({"sets": [unique("a", 4)], "batch_size": 0}, "batch_size is 0: give a whole number, at least 1"),
        ({"sets": [unique("a", 4)], "batch_size": 2.5}, "batch_size is 2.5: give a whole number"),
        ({"sets": [unique("a", 4)], "steps_per_epoch": float("nan")}, "steps_per_epoch is nan: give a whole number"),
        ({"sets": [unique("a", 4)], "seed": -1}, "seed is -1: give a whole number, at least 0"),
        ({"sets": [unique("a", 4)], "alpha": float("nan")}, "alpha is nan: give a number from 0 to 10"),
        ({"sets": [unique("a", 4)], "alpha": 1e6}, "alpha is 1000000.0: give a number from 0 to 10"),
        ({"sets": [unique("a", 4), unique("b", 4)], "weights": {"a": 1e308, "b": 1e308}}, "and their sum finite"),
    ],
)
def test_what_cannot_be_mixed_is_one_error_line(arguments, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Mixture(**{"batch_size": 4, **arguments})
    assert "\n" not in str(caught.value)


def test_sets_that_cannot_fill_a_batch_are_found():
    sets = [
        Ids("full", range(40), range(40)),
        Ids("one query", [1] * 40, range(40)),
        Ids("three passages", range(40), [0, 1, 2] * 13 + [0]),
        Ids("later", [1] * 39 + [2], range(40)),
        Ids("short", range(3), range(3)),
    ]
    found = Mixture(sets, batch_size=4).small_batches()
    assert found == [("one query", 1, 40), ("three passages", 3, 40), ("later", 2, 40), ("short", 3, 3)]


def test_rows_that_no_batch_has_room_for_wait_for_a_later_one():
    """16 rows with four queries: a batch has four of them, whatever its size, and all are shown."""
    row_set = Ids("a", np.arange(16) % 4, 100 + np.arange(16))
    for batch_size in (4, 8, 64):
        mixture = Mixture([row_set], batch_size=batch_size, steps_per_epoch=40)
        seen = Counter(row for step in range(40) for row in mixture.at(step).indices.tolist())
        assert [len(mixture.at(step).indices) for step in range(40)] == [4] * 40
        assert max(seen.values()) - min(seen[row] for row in range(16)) <= 3
    two = Mixture([Ids("b", [0, 0], [1, 2])], batch_size=8, steps_per_epoch=4)
    assert sorted(row for step in range(4) for row in two.at(step).indices.tolist()) == [0, 0, 1, 1]
