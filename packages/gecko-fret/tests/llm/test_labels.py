import math

import pytest

from gecko_fret.llm.labels import begins_another, from_alternatives, from_samples, read_label

YES_NO, SCALE = [" No", " Yes"], [" 0", " 1", " 2", " 3", " 4"]


def test_labels_are_read_from_the_likeliest_tokens():
    reading = from_alternatives({"Yes": math.log(0.6), "No": math.log(0.2), "Well": math.log(0.1)}, YES_NO)
    assert reading.probabilities == pytest.approx((0.25, 0.75))
    assert (reading.bound, reading.shown) == (0.0, 2)


def test_tokens_of_one_label_add_up():
    tops = {"Yes": math.log(0.3), " yes": math.log(0.2), "YES": math.log(0.1), "no": math.log(0.2), "\n": math.log(0.1)}
    assert from_alternatives(tops, YES_NO).probabilities == pytest.approx((0.25, 0.75))


def test_a_token_that_begins_one_label_alone_counts_for_it():
    labels = ["Perfectly relevant", "Partly relevant", "Irrelevant"]
    tops = {"Perf": math.log(0.4), "P": math.log(0.2), "Irre": math.log(0.1), "Part": math.log(0.1)}
    assert from_alternatives(tops, labels).probabilities == pytest.approx((4 / 6, 1 / 6, 1 / 6))
    assert from_alternatives({"1": -0.1, "10": -3.0}, ["1", "10"]).probabilities[0] > 0.9


def test_labels_that_differ_in_case_alone_are_told_apart():
    assert from_alternatives({"a": math.log(0.3), "A": math.log(0.1)}, [" A", " a"]).probabilities == pytest.approx(
        (0.25, 0.75)
    )


def test_a_missing_label_has_at_most_the_least_probability_shown():
    tops = {"2": math.log(0.7), "3": math.log(0.2), "one": math.log(0.04)}
    reading = from_alternatives(tops, SCALE)
    assert (reading.bound, reading.shown) == (pytest.approx(0.04), 2)
    whole = 0.7 + 0.2 + 3 * 0.04
    assert reading.probabilities == pytest.approx([0.04 / whole, 0.04 / whole, 0.7 / whole, 0.2 / whole, 0.04 / whole])


def test_a_missing_label_is_below_those_shown_however_improbable_they_are():
    """Of a model that is sure of another word, the labels are among the least of its likeliest tokens."""
    reading = from_alternatives({"Okay": -1e-9, "Sure": -21.0, "Yes": -19.0}, YES_NO)
    assert reading.bound == pytest.approx(math.exp(-21))
    assert reading.probabilities[1] == pytest.approx(1 / (1 + math.exp(-2)))


def test_where_no_label_is_shown_nothing_is_known():
    reading = from_alternatives({"Hm": math.log(0.5), "Well": math.log(0.25)}, YES_NO)
    assert reading.probabilities == (0.5, 0.5)
    assert (reading.bound, reading.shown) == (pytest.approx(0.25), 0)
    assert from_alternatives({}, YES_NO).bound == 1.0


def test_a_token_that_counts_as_impossible_is_not_shown():
    reading = from_alternatives({"Yes": -0.01, "No": -9999.0}, YES_NO)
    assert reading.shown == 1
    assert reading.probabilities[0] == pytest.approx(reading.bound, rel=0.1) == pytest.approx(1e-6, rel=0.1)


def test_what_is_left_over_bounds_missing_labels_too():
    reading = from_alternatives({"Yes": math.log(0.9)}, YES_NO)
    assert reading.probabilities == pytest.approx((0.1, 0.9))
    assert reading.bound == pytest.approx(0.1)
    assert from_alternatives({"Yes": 0.0001}, YES_NO).bound == 1e-6  # rounded up by the server


def test_samples_are_counted_with_half_an_answer_for_each_label():
    reading = from_samples(["3", "4 because", "3.", "no idea", ""], SCALE)
    assert reading.probabilities == pytest.approx([0.5 / 5.5, 0.5 / 5.5, 0.5 / 5.5, 2.5 / 5.5, 1.5 / 5.5])
    assert (reading.shown, reading.bound) == (3, 0.0)
    assert from_samples(["?"], YES_NO).probabilities == (0.5, 0.5)


@pytest.mark.parametrize(
    ("answer", "label"),
    [(" Yes", 1), ("**No**, it is", 0), ("yes.", 1), ("Not at all", None), ("Maybe yes", None), ("", None), ("NO", 0)],
)
def test_an_answer_is_the_label_that_it_begins_with(answer, label):
    assert read_label(answer, YES_NO) == label


def test_the_longest_label_counts():
    assert read_label("very good", ["very", "very good"]) == 1
    assert read_label("10", ["1", "10"]) == 1


@pytest.mark.parametrize("mark", ["▁", "Ġ", " ", "bytes:\\x20", ""])
def test_labels_are_known_by_whatever_stands_for_their_space(mark):
    reading = from_alternatives({f"{mark}Yes": -0.1, f"{mark}No": -3.0, f"{mark}Well": -5.0}, YES_NO)
    assert reading.shown == 2
    assert reading.probabilities == from_alternatives({" Yes": -0.1, " No": -3.0}, YES_NO).probabilities


def test_marked_and_plain_tokens_of_a_label_add_up():
    marked = from_alternatives({"▁Yes": -3.0, "No": -0.1, "ĠNo": -3.2}, YES_NO)
    assert marked.shown == 2
    assert marked.probabilities == from_alternatives({" Yes": -3.0, "No": -0.1, " No": -3.2}, YES_NO).probabilities


@pytest.mark.parametrize("token", ["æĺ¯", "ĠæĺĶ", "<0xE6><0x98><0xAF>", "bytes:\\xe6\\x98\\xaf", "是"])
def test_labels_in_letters_and_bytes(token):
    reading = from_alternatives({token: -0.1, "否": -3.0}, ["是", "否"])
    assert (reading.shown, reading.probabilities[0] > 0.9) == ((1, False) if token == "ĠæĺĶ" else (2, True))


@pytest.mark.parametrize("form", ["**{}", '"{}', "({}", "{}.", " {},", '"{}"', "{}**"])
def test_marks_around_a_label_make_no_difference(form):
    tops = {form.format("Yes"): -0.1, "No": -3.0, "Well": -5.0}
    assert from_alternatives(tops, YES_NO) == from_alternatives({"Yes": -0.1, "No": -3.0, "Well": -5.0}, YES_NO)


def test_a_word_or_number_that_goes_on_is_another():
    assert from_alternatives({"1.5": -0.1, "2": -3.0, "3": -4.0}, [" 1", " 2"]).shown == 1
    assert from_alternatives({"A+": -0.1, "B": -3.0, "C": -4.0}, ["A", "B"]).shown == 1
    assert from_alternatives({"None": -0.1, "Yes": -3.0, "Well": -4.0}, YES_NO).shown == 1


def test_labels_may_begin_with_a_mark_themselves():
    reading = from_alternatives({"(A)": -0.1, "(B": -3.0, "(": -4.0}, ["(A)", "(B)"])
    assert (reading.shown, reading.bound) == (2, 0.0)
    assert reading.probabilities == from_alternatives({"(A)": -0.1, "(B)": -3.0}, ["(A)", "(B)"]).probabilities


def test_where_no_sample_can_be_read_nothing_is_known():
    assert from_samples(["?", "hm"], YES_NO).bound == 1.0


def test_labels_of_which_one_begins_another():
    assert begins_another([" 0", " 1", " 10"]) == ("1", "10")
    assert begins_another(["No", "not sure"]) == ("no", "not sure")
    assert begins_another([" 0", " 1", " 2"]) is begins_another(YES_NO) is None
