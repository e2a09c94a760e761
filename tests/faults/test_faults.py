"""Whatever happens to a process or a file: the same result in the end, or one line that says what is wrong."""

import sys

import pytest

from tests.faults.harness import CRASHED, DONE, REFUSED, Scenario, in_child
from tests.faults.scenarios import EMBED, ENRICH, EVAL, FILES, FRET, TAKEN, TRAIN, make_backbone
from tests.faults.suite import Suite

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and kills its children")

# Faults of a kind for each scenario in the short form: a whole build or a training takes a second.
USUAL = {FILES: 30, EMBED: 15, EVAL: 10, FRET: 4, ENRICH: 3, TAKEN: 3, TRAIN: 2}
KINDS = {
    "kills": Suite.kills,
    "full_disks": Suite.full_disks,
    "damaged_interrupted": lambda suite: suite.damages(interrupted=True),
    "damaged_finished": lambda suite: suite.damages(interrupted=False),
    "two_processes": Suite.two_processes,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    import torch

    torch.set_num_threads(1)  # children are forked
    folder = tmp_path_factory.mktemp("faults")
    assert in_child(lambda: make_backbone(folder / "backbone"))[0] == DONE
    return folder


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scenario", USUAL, ids=lambda scenario: scenario.name)
def test_every_fault_ends_well(root, most, scenario, kind):
    usual = USUAL[scenario] if kind != "two_processes" else 2
    if scenario is TRAIN and kind != "kills" and most(usual) == usual:
        pytest.skip("long form only (--faults 5): minutes")
    folder = root / scenario.name / kind
    folder.mkdir(parents=True)
    if scenario is TRAIN:
        (folder / "backbone").symlink_to(root / "backbone")
    tally = KINDS[kind](Suite(scenario, folder, most(usual)))
    assert tally.faults
    assert tally.wrong == []


def test_the_suite_notices_work_that_does_not_go_on(tmp_path):
    """A writer that is not whole, and one that adds to what it finds."""

    def torn(folder):
        (folder / "a").write_text("1")
        (folder / "b").write_text((folder / "a").read_text() + "2" * (not (folder / "b").exists()))

    tally = Suite(Scenario("torn", torn, lambda folder: (folder / "b").read_text()), tmp_path, None).kills()
    assert tally.faults == 2
    assert tally.wrong == []
    (tmp_path / "more").mkdir()

    def adds(folder):
        with (folder / "a").open("a") as file:
            file.write("1")
        (folder / "b").write_text("2")

    adding = Suite(Scenario("adds", adds, lambda folder: (folder / "a").read_text()), tmp_path / "more", None)
    assert adding.kills().wrong == ["adds, killed at 2: ends with another result"]


def test_what_a_child_says_comes_back():
    from gecko_core.errors import DataError

    def fails():
        raise DataError("one line")

    assert in_child(fails) == (REFUSED, "one line")
    status, text = in_child(lambda: 1 / 0)
    assert status == CRASHED
    assert text.startswith("ZeroDivisionError: division by zero at ")
