import pytest

from gecko_eval.report.published import CATEGORIES, MTEB_ENG_V1, TASKS_ENG_V1, TASKS_ENG_V2


def test_the_papers_averages_follow_from_its_categories():
    sizes = [len(names.split()) for names in TASKS_ENG_V1.values()]
    assert sum(sizes) == 56
    for model, _, _, scores in MTEB_ENG_V1:
        average = sum(n * s for n, s in zip(sizes, scores, strict=False)) / 56
        assert average == pytest.approx(scores[-1], abs=0.06), model


@pytest.mark.parametrize(("name", "tasks"), [("MTEB(eng, v1)", TASKS_ENG_V1), ("MTEB(eng, v2)", TASKS_ENG_V2)])
def test_the_lists_of_tasks_are_mtebs(name, tasks):
    import mteb

    found = {category: set() for category in CATEGORIES}
    kinds = {kind: category for category, kind in CATEGORIES.items()}
    for task in mteb.get_benchmark(name).tasks:
        found[kinds[task.metadata.type]].add(task.metadata.name)
    assert found == {category: set(names.split()) for category, names in tasks.items()}
