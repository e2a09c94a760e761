import json
from pathlib import Path

import numpy as np
import pytest

from gecko_core.io import Silent
from gecko_fret.config import parse_config
from gecko_fret.prompting import Demonstration
from gecko_fret.steps import BuildContext
from gecko_fret.steps.examples import (
    POOL,
    draw_pool,
    examples_file,
    groups,
    pair,
    prepare_examples,
    read_examples,
)


@pytest.fixture
def context(tmp_path, small_corpus, make_models):
    path = tmp_path / "mine.txt"
    path.write_text("subject3word1 subject3word2 please\nsubject7word0 subject7word3 subject7word4 subject7word5\n")

    def context(**generate):
        config = parse_config({"llm": {"model": "fake"}, "generate": {"examples": str(path)} | generate})
        (tmp_path / "out").mkdir(exist_ok=True)
        return BuildContext(tmp_path / "out", config, small_corpus, make_models())

    return context


def test_every_example_gets_the_passage_that_the_embedder_finds(context):
    build = context(user_task="forum question")
    prepare_examples(build, Silent())
    shown = {d.query: d for d in read_examples(build)}
    assert shown["subject3word1 subject3word2 please"].passage.startswith("Title of subject3: ")
    assert shown["subject7word0 subject7word3 subject7word4 subject7word5"].passage.startswith("Title of subject7: ")
    assert {d.kind for d in shown.values()} == {"forum question"}


def test_pairs_are_made_once_and_kept(context):
    build = context()
    prepare_examples(build, Silent())
    before = examples_file(build.out).read_bytes()
    build.models = None  # nothing may be encoded again
    prepare_examples(build, Silent())
    assert examples_file(build.out).read_bytes() == before
    assert [set(entry) for entry in json.loads(before)["pairs"]] == [{"query", "passage", "similarity"}] * 2


def test_without_examples_there_is_nothing_to_do(context):
    build = context(examples=None)
    prepare_examples(build, Silent())
    assert not examples_file(build.out).exists()
    assert read_examples(build) == []


def test_a_passage_is_shown_with_its_best_query_alone():
    passages = np.eye(3, dtype=np.float32)
    queries = np.array([[1, 0, 0], [0.9, 0.4, 0], [0, 0, 1]], dtype=np.float32)
    assert [(q, p) for q, p, _ in pair(["a", "b", "c"], queries, passages)] == [(0, 0), (2, 2), (1, 1)]
    assert len(pair(["a", "b", "c"], queries, passages[:1])) == 1


def test_groups_hold_every_example_and_are_equally_large():
    shown = [Demonstration(kind="k", passage=f"p{i}", query=f"q{i}") for i in range(7)]
    made = groups(shown, 3, seed=0)
    assert [len(group) for group in made] == [3, 3, 3]
    assert {d.query for group in made for d in group} == {d.query for d in shown}
    assert all(len({d.query for d in group}) == 3 for group in made)
    assert groups(shown, 3, seed=0) == made != groups(shown, 3, seed=1)
    assert [len(group) for group in groups(shown[:2], 6, seed=0)] == [2]
    assert groups([], 3, seed=0) == []


def test_of_a_large_corpus_a_fixed_part_is_searched():
    rows = draw_pool(10 * POOL, seed=3)
    assert len(set(rows)) == POOL
    assert rows == draw_pool(10 * POOL, seed=3) == sorted(rows)
    assert max(rows) > 9 * POOL
    assert draw_pool(12, seed=3) == list(range(12))


def test_examples_file_is_in_the_folder():
    assert examples_file(Path("out")).parent == Path("out")
