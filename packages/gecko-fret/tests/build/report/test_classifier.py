import builtins
import sys

import numpy as np
import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_fret.build.report.classifier import FOLDS, SURFACE, Side, groups, surface, tell_apart

WORDS = [f"w{n}" for n in range(2000)]


def side(count, seed, shift=0.0, ending="", owners=None):
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, 8, replace=False)) + ending for _ in range(count)]
    vectors = rng.normal(size=(count, 16)) + shift
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Side(texts, vectors, owners or [None] * count)


def means(one, other, *name):
    return {features: float(areas.mean()) for features, areas in tell_apart(one, other, *name).items()}


def test_sides_of_one_kind_are_not_told_apart():
    found = means(side(150, 1), side(150, 2), 0)
    assert found == pytest.approx(dict.fromkeys(found, 0.5), abs=0.12)


def test_each_kind_of_features_sees_what_is_its_own():
    shifted = means(side(80, 1, shift=0.6), side(80, 2), 0)
    assert shifted["embeddings"] > 0.9
    assert shifted["surface"] == pytest.approx(0.5, abs=0.2)
    asked = means(side(80, 1, ending="?"), side(80, 2), 0)
    assert asked["surface"] > 0.99
    assert asked["embeddings"] == pytest.approx(0.5, abs=0.2)
    assert min(shifted["embeddings and surface"], asked["embeddings and surface"]) > 0.9


def test_the_same_name_gives_the_same_areas_and_another_other_folds():
    one, other = side(60, 1, shift=0.2), side(60, 2)
    first, again, third = (tell_apart(one, other, "folds", number) for number in (0, 0, 1))
    assert all(len(areas) == FOLDS for areas in first.values())
    for features, areas in first.items():
        np.testing.assert_array_equal(areas, again[features])
    assert any((first[features] != third[features]).any() for features in first)


def test_copies_and_owners_do_not_leak_over_folds():
    """Vectors say who the owner is, nothing of the side: with owners split over folds the sides would be told apart."""
    rng = np.random.default_rng(3)
    owners = [str(n // 4) for n in range(120)]
    vectors = np.repeat(rng.normal(size=(30, 200)), 4, axis=0) + 0.01 * rng.normal(size=(120, 200))
    texts = side(120, 4).texts
    other = Side(side(120, 5).texts, rng.normal(size=(120, 200)), [None] * 120)
    leaking = tell_apart(Side(texts, vectors, [None] * 120), other, 0)["embeddings"].mean()
    kept = tell_apart(Side(texts, vectors, owners), other, 0)["embeddings"].mean()
    assert leaking > 0.8
    assert kept == pytest.approx(0.5, abs=0.15)


def test_near_duplicates_and_owners_share_groups():
    texts = [
        "what is a tax return",
        "What is a tax return?",
        "what is the tax return",  # 4 of 6 words
        "how do I pay rent",
        "where can one buy bonds",
        "一二三",
        "???",
        "!!!",
    ]
    found = groups(texts, [None, None, None, "a", "a", None, None, None]).tolist()
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4]
    assert len(set(found)) == 5
    assert len(set(groups(texts[3:], [None] * 5).tolist())) == 5


def test_queries_that_are_all_alike_are_refused():
    same = Side(["what is a tax return"] * 60, np.ones((60, 4)), [None] * 60)
    with pytest.raises(DataError, match="too alike"):
        tell_apart(same, same)


def test_surface_by_hand():
    ((words, letters, distinct, capitals, digits, marks, begins, asks, ends),) = surface(["The Tax, the 401k?"])
    assert (words, letters, distinct) == (4, 13 / 4, 3 / 4)
    assert (capitals, digits, marks) == (2 / 10, 3 / 18, 2 / 18)
    assert (begins, asks, ends) == (1, 1, 0)
    assert len(SURFACE) == 9
    empty = surface(["", "…"])
    assert np.isfinite(empty).all()
    assert surface([]).shape == (0, 9)


def test_without_scikit_learn_it_is_one_line(monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *args, **options):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real_import(name, *args, **options)

    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"pip install 'gecko-fret\[real\]'"):
        tell_apart(side(50, 1), side(50, 2))
