from gecko_fret.judges import JUDGES
from gecko_fret.steps import STEPS


def test_no_two_steps_share_a_name_a_folder_or_a_count():
    counted = [step.counted_as for step in STEPS if step.counted_as]
    for values in ([step.name for step in STEPS], [step.folder for step in STEPS], counted):
        assert len(set(values)) == len(values), values
    assert not {"rejects", "first_pass"} & {step.folder for step in STEPS}


def test_every_step_follows_the_steps_that_it_reads():
    for index, step in enumerate(STEPS):
        assert set(step.upstream) <= set(STEPS[:index]), step.name


def test_a_judges_column_has_a_name_of_its_own():
    assert not {"query_id", "candidate_id"} & set(JUDGES)
    assert all(name == judge.name for name, judge in JUDGES.items())
