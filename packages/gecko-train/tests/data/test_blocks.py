import numpy as np
import pytest

from gecko_core.errors import DataError
from gecko_train.config import BlocksConfig
from gecko_train.data.blocks import BlockSet
from gecko_train.data.mixture import Mixture
from gecko_train.data.rows import Document, TrainingRow


def ring(queries=60, candidates=12, answered=True, step=1):
    """Query n has the documents n, n + 1, ... of a ring as candidates, best first: neighbours share most of them."""
    rows = []
    for n in range(queries):
        documents = tuple(Document(f"d{(step * n + k) % (step * queries)}") for k in range(candidates))
        scores = tuple(-float(k) for k in range(candidates))
        positive, negatives = (documents[0], documents[1:]) if answered else (None, documents)
        rows.append(TrainingRow("t", f"q{n}", positive, negatives, scores=scores))
    return rows


def block_set(rows, seed=0, **options):
    more = {key: options.pop(key) for key in ("share", "hard_negatives", "log_scores") if key in options}
    return BlockSet("ring", rows, BlocksConfig(**options), seed=seed, **more)


def test_a_block_holds_neighbours_and_what_they_share():
    blocks = block_set(ring(200, 12), documents=24, queries=16, starts=1)
    for number in range(10):
        block = blocks.block(number)
        assert len(set(block.documents.tolist())) == 24
        assert len(set(block.queries.tolist())) == len(block.queries) <= 16
        judged = [
            sum(document in blocks.documents(block.documents) for document in row.documents)
            for row in blocks.rows(block.queries)
        ]
        assert np.mean(judged) > 7  # of 12; queries drawn at random would have 12 x 24 / 200
        assert max(judged) == 12
    apart = block_set(ring(200, 12), documents=24, queries=16, starts=3, others=0)
    around = apart.block(0).queries
    assert len(np.unique(np.round(around / 25))) > 1  # from several places of the ring


def test_a_query_brings_its_answer_its_negatives_its_best_and_some_of_the_rest():
    rows = [TrainingRow("t", "q", Document("a"), tuple(Document(f"d{k}") for k in range(30)),
                        scores=(0.5, *(float(k) for k in range(30))))]  # fmt: skip
    blocks = block_set(rows, best=3, others=2, hard_negatives=2)
    names = [document.text for document in blocks.documents(blocks.block(0).documents)]
    assert names[:6] == ["a", "d0", "d1", "d29", "d28", "d27"]
    assert len(names) == 8
    others = {tuple(blocks.documents(blocks.block(n).documents)[6:]) for n in range(6)}
    assert len(others) > 3  # the rest is drawn anew every time


def test_a_pass_draws_every_query_once_and_knows_its_blocks():
    blocks = block_set(ring(300, 12), documents=24, queries=16, starts=2)
    drawn = [query for number in range(blocks.batches) for query in blocks.block(number).queries.tolist()]
    assert set(drawn) == set(range(300))
    assert len(drawn) < 1.3 * 300


def test_blocks_are_a_function_of_seed_and_number():
    first, second = (block_set(ring(), documents=16, queries=8) for _ in range(2))
    wanted = [first.block(number) for number in range(12)]
    again = second.block(9)  # a resumed run begins in the middle
    np.testing.assert_array_equal(again.queries, wanted[9].queries)
    np.testing.assert_array_equal(again.documents, wanted[9].documents)
    np.testing.assert_array_equal(second.block(2).queries, wanted[2].queries)
    other = block_set(ring(), seed=1, documents=16, queries=8)
    assert any((other.block(n).queries[:4] != wanted[n].queries[:4]).any() for n in range(4))


def test_the_fingerprint_is_of_what_the_plan_depends_on():
    same = block_set(ring()).fingerprint
    assert block_set(ring()).fingerprint == same
    assert block_set(ring(step=2)).fingerprint != same
    assert block_set(ring(answered=False)).fingerprint != same
    assert block_set(ring(), queries=8).fingerprint != same
    assert block_set(ring(), seed=1).fingerprint != same


def test_missing_hard_negatives_are_in_the_fingerprint():
    whole = [TrainingRow("t", "q", Document("a"), (Document("n"), Document("x")))]
    missing = [TrainingRow("t", "q", Document("a"), (Document("a"), Document("n"), Document("x")))]
    first, second = (block_set(rows, hard_negatives=1) for rows in (whole, missing))
    assert (first._own_hard.tolist(), second._own_hard.tolist()) == ([1], [0])
    assert first.fingerprint != second.fingerprint


def test_rows_come_back_with_all_their_candidates():
    rows = ring(5, 4) + ring(5, 4, answered=False)
    blocks = block_set(rows)
    assert blocks.rows(range(10)) == rows
    assert len(blocks.documents()) == 5


def test_a_small_set_is_one_block():
    blocks = block_set(ring(3, 4))
    assert blocks.batches == 1
    assert [sorted(blocks.block(n).queries.tolist()) for n in range(3)] == [[0, 1, 2]] * 3


def laid_out(rows, names, columns=3, **options):
    """The layout of all queries with the documents of these names."""
    blocks = block_set(rows, **options)
    places = {document.text: place for place, document in enumerate(blocks.documents())}
    return blocks.layout(np.arange(len(rows)), np.array([places[name] for name in names]), columns)


def test_a_block_has_a_target_for_every_pair_that_was_judged():
    rows = [
        TrainingRow("t", "q0", Document("a"), (Document("b"), Document("x")), scores=(0.0, -1.0, -2.0)),
        TrainingRow("t", "q1", None, (Document("c"), Document("a")), scores=(-3.0, -4.0)),
    ]
    nan = np.nan
    block = laid_out(rows, "abc")
    np.testing.assert_array_equal(block.targets, [[0, -1, nan], [-4, nan, -3]])
    assert block.answered.tolist() == [True, False]
    assert block.rows.tolist() == [[0, 1, 0], [2, 0, 2]]
    np.testing.assert_array_equal(block.scores, [[0, -1, nan], [-3, -4, nan]])
    assert block.document_ids[0].tolist() == [Document(name).id for name in "aba"]
    assert block.query_ids.tolist() == [row.query_id for row in rows]
    again = laid_out(rows, "xc")
    np.testing.assert_array_equal(again.targets, [[-2, nan], [nan, -3]])
    assert again.answered.tolist() == [False, False]  # q0's answer is not in this block


def test_only_hard_negatives_stand_in_the_places_of_hard_negatives():
    documents = (Document("n1"), Document("n2"), Document("likely"))
    rows = [TrainingRow("t", "q", Document("a"), documents, scores=(0.0, -9.0, -8.0, -0.1))]
    block = laid_out(rows, ["likely", "a", "n2"], 4, hard_negatives=2)
    assert block.rows.tolist() == [[1, 1, 2, 0]]  # n1 is not in the block: the answer, masked by its id, for it
    np.testing.assert_array_equal(block.scores, np.array([[0, np.nan, -8, -0.1]], dtype=np.float32))
    assert laid_out(rows, ["a"], 4, hard_negatives=2).rows.tolist() == [[0, 0, 0, 0]]
    assert laid_out(rows, ["likely", "n2"], hard_negatives=2).rows.tolist() == [[1, 0, 1]]


def test_the_answer_once_more_is_a_missing_hard_negative():
    """It leaves its place empty, which the next document, perhaps an answer, took."""
    documents = (Document("n1"), Document("a"), Document("likely"))
    rows = [TrainingRow("t", "q", Document("a"), documents, scores=(0.0, -9.0, np.nan, -0.1))]
    block = laid_out(rows, ["likely", "a", "n1"], 4, hard_negatives=2)
    assert block.rows.tolist() == [[1, 2, 1, 0]]
    np.testing.assert_array_equal(block.scores, np.array([[0, -9, np.nan, -0.1]], dtype=np.float32))


def test_likely_answers_of_a_block():
    scores = tuple(np.log([0.5, 0.29, 0.35, 0.31]).tolist())
    rows = [TrainingRow("t", "q", Document("a"), (Document("b"), Document("c"), Document("d")), scores=scores)]
    assert laid_out(rows, "dcb", share=0.6).likely.tolist() == [[True, True, False]]
    assert laid_out(rows, "dcb", share=0.9).likely.tolist() == [[False, False, False]]
    assert laid_out(rows, "dcb").likely is None


def test_what_fits_in_no_block_is_named():
    with pytest.raises(DataError, match="training set ring: a row without a query or candidates fits in no block"):
        block_set([TrainingRow("t", "q", None)])
    with pytest.raises(DataError, match="training set ring: no rows"):
        block_set([])


def test_a_mixture_plans_blocks_beside_other_sets(row_set):
    blocks = block_set(ring(300, 12), documents=24, queries=16)
    mixture = Mixture([row_set("pairs", 40), blocks], batch_size=8)
    assert mixture.steps_per_epoch == 5 + blocks.batches
    planned = [mixture.at(step) for step in range(2 * mixture.steps_per_epoch)]
    in_blocks = [batch for batch in planned if batch.set_index == 1]
    assert len(in_blocks) == 2 * blocks.batches
    for number, batch in enumerate(in_blocks):
        np.testing.assert_array_equal(batch.indices, blocks.block(number).queries)
        np.testing.assert_array_equal(batch.documents, blocks.block(number).documents)
    assert all(batch.documents is None for batch in planned if batch.set_index == 0)
    np.testing.assert_array_equal(mixture.at(planned.index(in_blocks[3])).indices, in_blocks[3].indices)
