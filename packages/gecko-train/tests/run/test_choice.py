import numpy as np
import pytest

from gecko_eval.data import RetrievalSet
from gecko_train.data.known_items import DrawnQuery, JudgedList, KnownItems
from gecko_train.data.rows import Document
from gecko_train.run.choice import Measured, best_of, choice_lines, judge_checkpoints, measure, numbers


class Places:
    """A model of two dims in which every text is a unit vector at the angle that it names, in degrees."""

    training = False

    def format_queries(self, texts, task):
        return [f"{text} {task}" for text in texts]

    def encode(self, texts):
        angles = np.radians([float(text.split()[0]) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)

    def encode_queries(self, texts, task):
        return self.encode(self.format_queries(texts, task))

    def encode_documents(self, texts, titles=None):
        return self.encode(texts)

    def truncate(self, vectors, dim):
        cut = vectors[:, :dim]
        return cut / np.linalg.norm(cut, axis=1, keepdims=True)

    dim, dims, device = 2, (2,), "cpu"

    def eval(self):
        self.training = False

    def train(self, mode=True):
        self.training = mode


def documents(*angles):
    return tuple(Document(str(angle), f"title {n}") for n, angle in enumerate(angles))


def items(*rows, pool=(0, 10, 20, 30, 40)):
    return KnownItems(None, rows, documents=documents(*pool))


def judged(query, answer, candidates=(), gains=(), task="t"):
    return JudgedList(task, str(query), answer, tuple(candidates), tuple(gains))


def test_a_query_scores_by_the_rank_of_its_answer():
    rows = [judged(21, 2), judged(21, 3), judged(0, 4), judged(0, None, (0, 1), (1.0, 2.0))]
    measured = measure(Places(), items(*rows), [2])
    np.testing.assert_allclose(measured.kinds["queries"], [1, 1 / np.log2(3), 1 / np.log2(6)], atol=1e-6)
    assert measured.units["queries"].tolist() == [0, 1, 2]
    assert "lists" not in measured.kinds  # one alone has no error
    far = measure(Places(), items(judged(0, 11), judged(0, 9), pool=range(12)), [2])
    np.testing.assert_allclose(far.kinds["queries"], [0, 1 / np.log2(11)], atol=1e-6)


def test_a_list_scores_by_the_judges_gains():
    right, wrong = judged(0, 0, (0, 1, 2), (0.7, 0.2, 0.1)), judged(0, 0, (2, 1, 0), (0.7, 0.2, 0.1))
    alike = judged(0, 0, (0, 1, 2), (0.3, 0.3, 0.3))
    measured = measure(Places(), items(right, wrong, alike), [2])
    discount = 1 / np.log2([2, 3, 4])
    expected = (np.array([0.1, 0.2, 0.7]) @ discount) / (np.array([0.7, 0.2, 0.1]) @ discount)
    np.testing.assert_allclose(measured.kinds["lists"], [1, expected], atol=1e-6)
    assert measured.units["lists"].tolist() == [0, 1]


def test_drawn_words_score_as_queries_do_and_are_items_of_their_own():
    words = tuple(DrawnQuery("t", str(query), answer) for query, answer in ((21, 2), (21, 3), (0, 4)))
    pool = documents(0, 10, 20, 30, 40)
    alone = measure(Places(), KnownItems(None, (), words, pool), [2])
    np.testing.assert_allclose(alone.kinds["words"], [1, 1 / np.log2(3), 1 / np.log2(6)], atol=1e-6)
    assert set(alone.kinds) == {"words"}
    rows = (judged(21, 3), judged(0, 0))
    both = measure(Places(), KnownItems(None, rows, words, pool), [2])
    np.testing.assert_allclose(both.kinds["queries"], [1 / np.log2(3), 1], atol=1e-6)
    np.testing.assert_array_equal(both.kinds["words"], alone.kinds["words"])
    assert not set(both.units["words"].tolist()) & set(both.units["queries"].tolist())


def test_a_model_that_tells_nothing_apart_gains_nothing():
    rows = [judged(5, 0, (0, 1, 2), (0.7, 0.2, 0.1)), judged(5, 1, (1, 2, 0), (0.7, 0.2, 0.1))]
    measured = measure(Places(), items(*rows, pool=("7 a", "7 b", "7 c", "7 d")), [2])
    np.testing.assert_allclose(measured.kinds["queries"], 1 / np.log2(5), atol=1e-6)
    assert (measured.kinds["lists"] < 0.7).all()


def test_values_are_means_over_the_dims():
    rows = [judged(100, 1), judged(100, 1)]  # at one dim all of a half-plane are equally near
    at_1, at_2, both = (measure(Places(), items(*rows), dims).kinds["queries"][0] for dims in ([1], [2], [1, 2]))
    assert at_1 != at_2
    assert both == pytest.approx((at_1 + at_2) / 2, abs=1e-6)


def test_titles_are_searched_as_in_the_test():
    titles = RetrievalSet(
        "titles", ["q0", "q1"], ["1", "29"], ["a", "b"], ["0", "30"], None, {"q0": {"a": 1}, "q1": {"a": 1}}
    )
    measured = measure(Places(), KnownItems(titles), [2])
    np.testing.assert_allclose(measured.kinds["titles"], [1, 1 / np.log2(3)], atol=1e-6)
    assert measured.score == pytest.approx((1 + 1 / np.log2(3)) / 2, abs=1e-6)


def test_each_kind_counts_the_same_and_errors_are_paired():
    generator = np.random.default_rng(0)
    sizes = {"titles": 40, "queries": 9, "lists": 11}
    units = {"titles": -1 - np.arange(40), "queries": np.arange(9), "lists": np.arange(11)}
    one, other = (Measured({kind: generator.random(size) for kind, size in sizes.items()}, units) for _ in range(2))
    assert one.score == pytest.approx(np.mean([values.mean() for values in one.kinds.values()]), abs=1e-6)
    against = one.against(other)
    for kind, size in sizes.items():
        differences = one.kinds[kind] - other.kinds[kind]
        assert against[kind] == pytest.approx([differences.mean(), differences.std(ddof=1) / size**0.5], abs=1e-6)
    independent = np.sqrt(sum(against[kind][1] ** 2 for kind in sizes)) / 3
    assert against["score"][0] == pytest.approx(one.score - other.score, abs=2e-6)
    assert against["score"][1] == pytest.approx(independent, rel=0.5)
    assert one.against(one) == {kind: [0.0, 0.0] for kind in (*sizes, "score")}


def test_a_query_and_a_list_of_one_row_are_not_taken_for_two_independent_items():
    values, zeros = np.random.default_rng(0).random(30), np.zeros(30)
    units = np.arange(30)
    one = Measured({"queries": values, "lists": values}, {"queries": units, "lists": units})
    base = Measured({"queries": zeros, "lists": zeros}, one.units)
    apart = Measured(one.kinds, {"queries": units, "lists": units + 30})
    error = values.std(ddof=1) / 30**0.5
    assert one.against(base)["score"][1] == pytest.approx(error, abs=1e-6)
    assert apart.against(base)["score"][1] == pytest.approx(error / 2**0.5, abs=1e-6)


def of(*values):
    return Measured({"titles": np.array(values)}, {"titles": np.arange(len(values))})


def test_of_equal_models_the_first_is_best():
    assert best_of([of(0.5, 0.5), of(0.5, 0.5), of(0.5, 0.5)]) == 0
    assert best_of([of(0.5, 0.5), of(0.5 + 1e-9, 0.5 + 1e-9), of(0.4, 0.4)]) == 0  # machines differ by more
    better = of(*[0.6] * 6)
    assert best_of([of(*[0.5] * 6), better, better]) == 1


def test_a_handful_of_items_supports_nothing():
    """Two lists that agreed had no error, and any lead was beyond it."""
    assert best_of([of(*[0.5] * 5), of(*[0.9] * 5)]) == 0
    assert best_of([of(*[0.5] * 6), of(*[0.9] * 6)]) == 1


@pytest.mark.parametrize(
    "sizes", [{"titles": 6}, {"titles": 12}, {"lists": 2, "words": 15}, {"lists": 3, "titles": 100}]
)
def test_leads_by_chance_are_as_rare_as_the_interval_says(sizes):
    rng, trials = np.random.default_rng(5), 800
    starts = np.cumsum([0, *sizes.values()])
    units = {kind: start + np.arange(size) for (kind, size), start in zip(sizes.items(), starts, strict=False)}
    zeros = Measured({kind: np.zeros(size) for kind, size in sizes.items()}, units)
    taken = sum(
        best_of([zeros, Measured({kind: rng.normal(size=size) for kind, size in sizes.items()}, units)])
        for _ in range(trials)
    )
    assert taken / trials < 0.025 + 3 * (0.025 * 0.975 / trials) ** 0.5


def test_a_lead_within_the_noise_does_not_take_the_place_of_the_start_model():
    start, led = of(*[0.5] * 100), of(*[0.5] * 97, 1.0, 1.0, 1.0)
    difference, error = led.against(start)["score"]
    assert 0 < difference < 1.96 * error  # .015, .0086
    assert best_of([start, led]) == 0
    assert best_of([start, of(*[0.5] * 96, 1.0, 1.0, 1.0, 1.0)]) == 1  # .02, .0098


def test_of_supported_leads_the_surest_wins_not_the_largest():
    start, short, long = of(*[0.5] * 50), of(*[0.6] * 50), of(*[0.5] * 30, *[0.8] * 20)
    assert long.score > short.score
    assert best_of([start, short, long]) == best_of([start, long, short]) - 1 == 1


def test_of_models_that_stand_as_they_are_the_better_one_is_what_has_to_be_led():
    start, warm = of(*[0.5] * 40), of(*[0.5] * 39, 0.9)  # better, within the noise
    assert best_of([start, warm, warm], standing=2) == 1
    assert best_of([warm, start, start], standing=2) == 0


def test_a_trained_model_has_to_lead_what_it_was_trained_from():
    start, warm = of(*[0.5] * 40), of(*[0.7] * 40)
    end = of(*[0.7] * 38, 0.9, 0.9)  # far above the start, within the noise of the warm model
    assert best_of([start, warm, end], standing=2) == 1
    assert best_of([start, warm, of(*[0.8] * 40)], standing=2) == 2
    # Pre-finetuning hurt: what grew out of it is compared with the start.
    assert best_of([start, of(*[0.3] * 40), of(*[0.4] * 40)], standing=2) == 0
    assert best_of([start, of(*[0.3] * 40), of(*[0.6] * 40)], standing=2) == 2


def test_checkpoints_are_judged_in_evaluation_mode_and_training_goes_on():
    model = Places()
    model.training = True
    found = judge_checkpoints(items(judged(21, 2), judged(21, 3)), [2])(5, model)
    assert model.training
    assert next(iter(found)) == "score"
    assert found == numbers(measure(model, items(judged(21, 2), judged(21, 3)), [2]))
    assert found["eval/queries"] == found["score"]


def line(model, share, score, **against):
    differences = {
        name: {kind: [difference, 0.002] for kind in ("titles", "score")} for name, difference in against.items()
    }
    return {"model": model, "share": share, "score": score, "titles": score, "against": differences}


def test_the_screen_says_what_was_saved_and_why():
    measured = [
        line("start", 0.0, 0.59, start=0.0, warm=-0.01), line("warm", 0.0, 0.6, start=0.01, warm=0.0),
        line("fine-tuned", 0.5, 0.61, start=0.02, warm=0.01), line("fine-tuned", 1.0, 0.58, start=-0.01, warm=-0.02),
    ]  # fmt: skip
    record = {"by": "items", "base": "warm", "method": "slerp", "items": {"titles": 30}, "measured": measured}
    assert choice_lines({**record, "saved": "fine-tuned", "share": 0.5}) == [
        "saved: 0.50 of the way from the warm model to the end of training (slerp), on the known items (30 titles)"
        ": nDCG 0.610, +0.0200 (se 0.0020) against the start model, +0.0100 (se 0.0020) against the warm model; the "
        "end of training -0.0200 (se 0.0020)",
        "by kind: titles 0.610, +0.0100 (se 0.0020)",
    ]
    assert choice_lines({**record, "saved": "start", "share": 0.0}) == [
        "saved: the start model, unchanged: no model on the way is better on the known items (30 titles) "
        "beyond the noise, nDCG 0.590",
        "the end of training against it: -0.0100 (se 0.0020); titles -0.0100 (se 0.0020)",
    ]
    assert "the end of training against it: -0.0200" in choice_lines({**record, "saved": "warm", "share": 0.0})[1]
    (first, _) = choice_lines({**record, "saved": "fine-tuned", "share": 1.0})
    assert first.startswith("saved: the end of training, on the known items")
    assert first.endswith("-0.0200 (se 0.0020) against the warm model")
    fixed = {"by": "recipe", "base": "start", "method": "linear", "saved": "fine-tuned"}
    assert "0.30 of the way" in choice_lines({**fixed, "share": 0.3})[0]
    assert choice_lines({**fixed, "share": 1.0}) == ["saved: the end of training, as finetune.interpolate says"]
    assert choice_lines({**fixed, "saved": "start", "share": 0.0}) == [
        "saved: the start model, unchanged, as finetune.interpolate says"
    ]
    assert "too few titles, FRet rows and passages" in choice_lines({**fixed, "by": "nothing", "share": 1.0})[0]
