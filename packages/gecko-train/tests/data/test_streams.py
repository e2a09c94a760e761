import json

import numpy as np
import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_train.config import SetConfig, parse_recipe
from gecko_train.data.mixture import Mixture
from gecko_train.data.rows import Document, TrainingRow
from gecko_train.data.sources.base import SourceContext
from gecko_train.data.sources.registry import load_set
from gecko_train.data.streams import StreamedSet


def stream(count, *, name="s", seed=0, window=32, copies=1, read=None):
    def rows():
        for number in range(count):
            yield TrainingRow("t", f"q{number // copies}", Document(f"p{number // copies}"))

    return StreamedSet(name, read or rows, count, seed=seed, window=window)


def test_a_pass_shows_every_row_once_shuffled_and_then_begins_again():
    streamed = stream(100)
    first = np.concatenate([streamed.batch(number, 10) for number in range(10)])
    assert len(set(first)) == 100
    assert first.max() < 132
    assert list(first) != sorted(first)
    later = [streamed.rows(streamed.batch(number, 10)) for number in range(10, 20)]
    assert all(len({row.query for row in batch}) == 10 for batch in later)


def test_no_query_and_no_passage_twice_and_the_length_is_exact():
    streamed = stream(300, copies=3)
    for number in range(25):
        rows = streamed.rows(streamed.batch(number, 12))
        assert len(rows) == len({row.query for row in rows}) == len({row.positive.text for row in rows}) == 12


def test_a_query_is_kept_apart_from_the_row_whose_passage_it_is():
    def chain():
        return (TrainingRow("t", f"text {n}", Document(f"text {n + 1}")) for n in range(100))

    streamed = stream(100, read=chain)
    for number in range(20):
        rows = streamed.rows(streamed.batch(number, 10))
        assert len(rows) == 10
        assert not {row.query for row in rows} & {row.positive.text for row in rows}


def test_a_batch_is_a_function_of_seed_and_number():
    forward, jumping = stream(90), stream(90)
    wanted = [forward.batch(number, 8).tolist() for number in range(20)]
    assert jumping.batch(13, 8).tolist() == wanted[13]  # resumed
    assert jumping.batch(2, 8).tolist() == wanted[2]  # and looked back
    assert stream(90, seed=1).batch(0, 8).tolist() != wanted[0]
    assert [row.query for row in jumping.rows(jumping.batch(3, 8))] == [f"q{n % 90}" for n in wanted[3]]


def test_a_set_with_fewer_distinct_rows_than_a_batch_gives_all_it_has():
    streamed = stream(6, copies=2)
    for number in range(5):
        assert {row.query for row in streamed.rows(streamed.batch(number, 8))} == {"q0", "q1", "q2"}


@pytest.mark.parametrize("said", [5, 90, 100_000])
def test_batches_are_whole_whatever_the_recipe_says_of_the_size(said):
    """Copies that fill the window are passed over, though the set is said to be shorter than they are."""
    texts = ["copy"] * 70 + [f"other {number}" for number in range(20)]
    streamed = StreamedSet(
        "s", lambda: (TrainingRow("t", f"q {text}", Document(text)) for text in texts), said, window=8
    )
    assert [len(streamed.batch(number, 12)) for number in range(8)] == [12] * 8


def test_an_empty_stream_is_named():
    with pytest.raises(DataError, match=r"training set s: no rows"):
        stream(0, read=lambda: iter(())).batch(0, 4)


def test_several_streams_and_a_table_in_one_mixture(row_set):
    def plan():
        sets = [stream(60, name="a"), row_set("b", 40), stream(30, name="c", seed=4)]
        return Mixture(sets, batch_size=10, seed=3)

    whole, jumping = plan(), plan()
    batches = [whole.at(step) for step in range(30)]
    shares = np.bincount([batch.set_index for batch in batches[:13]], minlength=3)
    assert shares.tolist() == [6, 4, 3]
    assert {len(batch.indices) for batch in batches} == {10}
    for step in (29, 4, 17):
        planned = jumping.at(step)
        assert planned.set_index == batches[step].set_index
        assert np.array_equal(planned.indices, batches[step].indices)
        assert np.array_equal(np.concatenate([planned.slice(rank, 3) for rank in range(3)]), planned.indices)


def test_a_recipe_streams_a_file_and_training_on_it_works(tiny_model, tmp_path):
    from gecko_train.config import ObjectiveConfig, TrainerConfig
    from gecko_train.loop.trainer import Trainer
    from gecko_train.loss.objective import Objective

    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"title": f"bank {n}", "body": f"dort {n} lims"}) + "\n" for n in range(40)))
    options = {"columns": {"query": "title", "positive": "body"}}
    config = SetConfig(source="pairs", path=str(path), stream=True, rows=40, shuffle_rows=16, options=options)
    streamed = load_set(config, SourceContext())
    assert isinstance(streamed, StreamedSet)
    objective = Objective(ObjectiveConfig(hard_negatives=0), dims=tiny_model.dims)
    mixture = Mixture([streamed], batch_size=8)
    summary = Trainer(
        tiny_model, mixture, [objective], TrainerConfig(batch_size=8, epochs=2, precision="fp32"), tmp_path / "run"
    ).train()
    assert (summary.steps, summary.rows) == (10, 80)


def test_what_cannot_be_streamed_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a streamed set needs `rows`"):
        parse_recipe({"finetune": {"sets": [{"source": "pairs", "path": "x", "stream": True}]}})
    config = SetConfig(source="snli", path="x", stream=True, rows=5)
    with pytest.raises(ConfigError, match="looks at all its rows at once; leave `stream` out"):
        load_set(config, SourceContext())
    with pytest.raises(DataError, match="x: no such file or folder"):
        load_set(SetConfig(source="pairs", path="x", stream=True, rows=5), SourceContext())


def test_a_set_of_the_hub_is_read_through_datasets(monkeypatch):
    import datasets

    asked = []

    def fake(*names, **options):
        asked.append((names, options))
        return [{"question": "q", "answer": "a"}, {"question": "r", "answer": "b"}]

    monkeypatch.setattr(datasets, "load_dataset", fake)
    config = SetConfig(source="pairs", path="hub:owner/set/part", stream=True, rows=2)
    streamed = load_set(config, SourceContext())
    assert {row.query for row in streamed.rows(streamed.batch(0, 2))} == {"q", "r"}
    assert asked[0] == (("owner/set", "part"), {"split": "train", "streaming": True})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: (_ for _ in ()).throw(ValueError("no such set")))
    with pytest.raises(DataError, match=r"hub:owner/set: cannot be read \(no such set\); check the name"):
        load_set(SetConfig(source="pairs", path="hub:owner/set"), SourceContext())


def test_the_last_batches_are_not_read_again():
    """The first one is asked for before training, too; a stream of the hub would be fetched twice."""
    begun = []

    def rows():
        begun.append(1)
        return (TrainingRow("t", f"q{n}", Document(f"p{n}")) for n in range(100))

    streamed = stream(100, read=rows)
    wanted = [streamed.batch(number, 8).tolist() for number in range(5)]
    assert [streamed.batch(number, 8).tolist() for number in (4, 1, 2)] == [wanted[4], wanted[1], wanted[2]]
    assert streamed.batch(5, 8).tolist() == stream(100).batch(5, 8).tolist()
    assert len(begun) == 1
    assert streamed.batch(0, 8).tolist() == wanted[0]
    assert len(begun) == 2
