from gecko_fret.config import parse_config
from gecko_fret.steps.plan import Plan, StepCost


def test_totals_are_sums_over_the_steps():
    plan = Plan(parse_config({}), "corpus", 10, 400.0)
    plan.costs = {"a": StepCost("", requests=2, read=300, written=10, seconds=5), "b": StepCost("", 1, 100)}
    assert (plan.requests, plan.read, plan.written, plan.measured_seconds) == (3, 400, 10, 5)
    assert plan.seconds(read_per_second=40, written_per_second=5) == 12


def test_long_passages_count_what_is_read_of_them():
    plan = Plan(parse_config({}), "corpus", 10, 400.0)
    assert plan.text_tokens(80) == 80
    assert plan.text_tokens(1000) == 100
