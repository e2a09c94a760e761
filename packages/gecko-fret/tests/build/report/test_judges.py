import copy

import pytest

from gecko_fret.build.report.judges import judge_sections, verdict

ROW = {"mrr": 0.5, "low": 0.4, "high": 0.6, "ndcg": 0.55}
STUDENT = ROW | {"above_student": None, "above_student_low": None, "above_student_high": None}


def above(middle, low, high):
    return ROW | {"above_student": middle, "above_student_low": low, "above_student_high": high}


MEASURED = {
    "weights": {"ql": 1.25, "similarity": 0.9, "rc": 0.0},
    "ridge": 1.0,
    "tokens_per_pair": {"ql": 120.4, "rc": 130.0},
    "measured_on": {
        "known": {
            "items": 48,
            "candidates": 20.0,
            "rankings": {
                "ql": above(0.01, -0.02, 0.04),
                "similarity": STUDENT,
                "rc": above(-0.3, -0.4, -0.2),
                "fused": above(0.05, 0.01, 0.09),
                "chance": above(-0.3, -0.4, -0.2),
            },
            "agreement": {"ql": {"ql": 1.0, "rc": 0.1}, "rc": {"ql": 0.1, "rc": 1.0}},
        },
        "seeds": {"items": 24, "candidates": 20.0, "rankings": {"ql": STUDENT}, "agreement": {"ql": {"ql": 1.0}}},
    },
}


def test_tables_hold_what_was_measured():
    known, agreement, seeds = judge_sections(MEASURED)
    assert known.title == "Judges on known items"
    assert known.note.startswith("48 titles and sentences")
    rows = {row[0]: row[1:] for row in known.rows}
    assert rows["ql"] == ("0.500", "0.400 to 0.600", "0.550", "+0.010 (-0.020 to +0.040)", "1.25", "120")
    assert rows["similarity (the student)"][3:] == ("-", "0.90", "-")
    assert rows["all, fused"][4] == "-"
    assert known.intervals[0] == (0.4, 0.5, 0.6)
    assert agreement.rows == [("ql", "1.00", "0.10"), ("rc", "0.10", "1.00")]
    assert "too kindly" in seeds.note


@pytest.mark.parametrize(
    ("margin", "words"),
    [
        ((0.05, 0.01, 0.09), "above the student by +0.050 (+0.010 to +0.090) MRR: something to distil"),
        ((0.02, -0.01, 0.05), "which may be chance: little to distil"),
        ((0.0, 0.0, 0.0), "find all of these items equally well: they are too few or too easy"),
        ((0.5, 0.5, 0.5), "above the student by +0.500 (+0.500 to +0.500) MRR: something to distil"),
        ((-0.02, -0.05, -0.001), "not above the student, -0.020 (-0.050 to -0.001) MRR: nothing to distil"),
    ],
)
def test_verdict_says_whether_there_is_something_to_distil(margin, words):
    measured = copy.deepcopy(MEASURED)
    measured["measured_on"]["known"]["rankings"]["fused"] = above(*margin)
    text = verdict(measured)
    assert words in text
    assert "Worth asking: ql, similarity." in text
    assert "Weight 0, adds nothing: rc." in text


def test_verdict_without_the_student_says_so():
    measured = copy.deepcopy(MEASURED)
    measured["measured_on"]["known"]["rankings"]["fused"] = STUDENT
    assert "the margin over it is unknown" in verdict(measured)
