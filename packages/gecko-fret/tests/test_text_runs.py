from hypothesis import given
from hypothesis import strategies as st

from gecko_fret.text_runs import longest_common_run

WORDS = st.lists(st.sampled_from("abc"), max_size=14)


def reference(first, second):
    runs = {tuple(first[i:j]) for i in range(len(first)) for j in range(i + 1, len(first) + 1)}
    lengths = [j - i for i in range(len(second)) for j in range(i + 1, len(second) + 1) if tuple(second[i:j]) in runs]
    return max(lengths, default=0)


@given(WORDS, WORDS)
def test_it_is_the_longest_run_of_all(first, second):
    assert longest_common_run(first, second) == reference(first, second)


def test_long_texts_are_no_matter():
    assert longest_common_run(["w"] * 50_000, ["w"] * 40_000) == 40_000
