import pytest

from gecko_core.errors import DataError
from gecko_train.config import BlocksConfig, ObjectiveConfig
from gecko_train.data.blocks import BlockSet
from gecko_train.data.rows import Document, RowSet, TrainingRow
from gecko_train.data.streams import StreamedSet
from gecko_train.loop.lessons import FIRST_STEPS, FirstSteps, check_sets
from gecko_train.loss.objective import Objective


def objective(**fields):
    return Objective(ObjectiveConfig(**fields), (32, 16))


def texts(name="texts"):
    return RowSet.from_rows(name, [TrainingRow("t", f"bank {n}", None) for n in range(4)])


def pairs(count=4, name="pairs", negatives=(), **fields):
    rows = [TrainingRow("t", f"bank {n}", Document(f"lims {n}"), negatives, **fields) for n in range(count)]
    return RowSet.from_rows(name, rows)


def scored(name="scored", scores=(0.5, 0.2)):
    rows = [TrainingRow("t", f"bank {n}", None, (Document("a"), Document("b")), scores=scores) for n in range(4)]
    return RowSet.from_rows(name, rows)


SAME = [TrainingRow("t", "same", Document("same"))] * 8
NAN = float("nan")
KL = {"contrastive_weight": 0, "kl": {"weight": 1}}


@pytest.mark.parametrize(
    ("made", "fields", "message"),
    [
        (texts, {}, "set texts: no row has a query and its answer, .*objective.contrastive_weight: 0"),
        (scored, {}, "set scored: no row has a query and its answer"),
        (lambda: pairs(1), {}, "set pairs: .*: it has one row, and there is no hard negative; add rows"),
        (lambda: RowSet.from_rows("same", SAME), {}, "set same: the contrastive loss has nothing to compare"),
        (lambda: pairs(4, label="one"), {}, "no two of its 4 rows differ in query, positive and label"),
        (lambda: pairs(4), {"in_batch": False}, "nothing to compare a positive with: there is no hard negative"),
        (lambda: pairs(1, negatives=(Document("lims 0"),)), {}, "it has one row, and there is no hard negative; add"),
        (lambda: pairs(1, negatives=(Document("x"),)), {"hard_negatives": 0}, "objective.hard_negatives is 0"),
        (pairs, KL, "set pairs: no row has scores of two documents, without which objective.kl learns nothing"),
        (lambda: scored(scores=(0.5, NAN)), KL, "set scored: no row has scores of two documents"),
        (pairs, {"kl": {"weight": 1}}, r"set pairs: .* objective.kl learns nothing; .* or objective.kl.weight: 0"),
    ],
)
def test_sets_that_teach_nothing_are_refused_in_one_line(made, fields, message):
    with pytest.raises(DataError, match=message) as caught:
        check_sets([made()], [objective(**fields)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("made", "fields"),
    [
        (pairs, {}),
        (lambda: pairs(2), {"hard_negatives": 0}),
        (lambda: pairs(1, negatives=(Document("other"),)), {}),
        (lambda: pairs(3, negatives=(Document("other"),)), {"in_batch": False}),
        (lambda: RowSet.from_rows("simcse", [TrainingRow("t", x, Document(x), symmetric=True) for x in "ab"]), {}),
        (scored, KL),
        (texts, {"contrastive_weight": 0, "matching": {"weight": 1}}),
        (texts, {"matching": {"weight": 1}}),  # the contrastive loss is on by default
        (lambda: pairs(1), {"spread_out": {"weight": 1}, "matching": {"weight": 1}}),
        (lambda: StreamedSet("stream", lambda: iter(SAME), rows=8), {}),
    ],
)
def test_what_teaches_something_is_not_stopped(made, fields):
    assert check_sets([made()], [objective(**fields)]) == []


def test_hard_negatives_of_all_rows_do_not_go_with_classes():
    """One row's negative may be of the class of another row, whose right answer it would be pushed away from."""
    classes = RowSet.from_rows(
        "classes", [TrainingRow("t", f"q{n}", Document(f"d{n}"), (Document("x"),), label=str(n % 3)) for n in range(6)]
    )
    message = "set classes: its rows have classes, .* give this set `objective: {negatives_scope: own}`"
    with pytest.raises(DataError, match=message):
        check_sets([pairs(), classes], [objective(negatives_scope="batch")] * 2)
    for fields in ({}, {"negatives_scope": "batch", "hard_negatives": 0}):
        assert check_sets([pairs(), classes], [objective(**fields)] * 2) == []
    assert check_sets([pairs(negatives=(Document("x"),))], [objective(negatives_scope="batch")]) == []


def test_only_one_of_several_sets_must_teach_and_the_others_are_named():
    useful = objective()
    [note] = check_sets([pairs(), texts()], [useful, useful])
    assert note.startswith("set texts: no row has a query and its answer")
    mixed = objective(kl={"weight": 1})
    assert check_sets([pairs(), scored()], [mixed, mixed]) == []
    with pytest.raises(DataError, match=r"set texts: .* \(no other set teaches anything either\)"):
        check_sets([texts(), texts("more")], [useful, useful])
    with pytest.raises(DataError, match=r"set pairs: no row has scores .* objective\.kl"):
        check_sets([pairs(), texts()], [mixed, mixed])


def test_blocks_are_asked_as_well(neighbours):
    rows = list(neighbours(30))
    blocks = BlocksConfig(documents=16, queries=12)
    unanswered = [TrainingRow(row.task, row.query, None, row.documents, scores=row.scores) for row in rows]
    unjudged = [
        TrainingRow(row.task, row.query, row.positive, row.negatives, scores=(NAN,) * len(row.documents))
        for row in rows
    ]
    alone, block = objective(), objective(contrastive_weight=0, block={"weight": 1})
    assert check_sets([BlockSet("b", rows, blocks)], [alone]) == []
    assert check_sets([BlockSet("b", unanswered, blocks)], [block]) == []
    with pytest.raises(DataError, match="no row has a query and its answer"):
        check_sets([BlockSet("b", unanswered, blocks)], [alone])
    with pytest.raises(DataError, match="no row has scores of two documents"):
        check_sets([BlockSet("b", unjudged, blocks)], [block])
    one = [TrainingRow("t", "q", Document("a"), (Document("b"),), scores=(1.0, 0.5))]
    with pytest.raises(DataError, match="nothing to compare"):
        check_sets([BlockSet("b", one, blocks)], [alone])
    assert check_sets([BlockSet("b", one, blocks, hard_negatives=1)], [alone]) == []


def test_the_first_steps_need_one_gradient():
    steps = FirstSteps(100)
    for done in range(1, FIRST_STEPS):
        steps.step(done, 0.0, 0.0, "a")
        assert steps.idle
    with pytest.raises(DataError, match=r"step 10: no step so far had a gradient \(set a, loss 0.000\)"):
        steps.step(FIRST_STEPS, 0.0, 0.0, "a")
    steps = FirstSteps(100)
    for done, norm in enumerate([0.0, 1e-30, *[0.0] * 98], 1):  # later ones need none
        steps.step(done, 0.0, norm, "a")
    assert not steps.idle
    resumed = FirstSteps(100)
    for done in range(4, 100):
        resumed.step(done, 0.0, 0.0, "a")
    short = FirstSteps(2)
    short.step(1, 0.0, 0.0, "a")
    with pytest.raises(DataError, match="step 2: no step so far"):
        short.step(2, 0.0, 0.0, "a")


def test_a_set_that_cannot_fill_a_batch_is_named(trainer, tiny_model, tmp_path):
    other = (Document("something else"),)
    rows = [TrainingRow("t", "the same query", Document(f"answer {n}"), other) for n in range(20)]
    made = trainer(tiny_model, [RowSet.from_rows("same", rows)], tmp_path, max_steps=1)
    made.train()
    shown = made.console.file.getvalue()
    assert "note: set same: a batch has at most 1 of its 20 rows, not 8: no two rows" in shown
    assert "a batch of one row has no other rows' passages as negatives" in shown
