import io
import json

import numpy as np
import pytest
from rich.console import Console

from gecko_core.errors import ConfigError
from gecko_train.config import parse_recipe
from gecko_train.data.rows import Document, TrainingRow
from gecko_train.run.ablate import (
    CELLS,
    PAPER,
    Cell,
    as_markdown,
    check_stage,
    equal_cells,
    interval,
    kl_weight,
    run_ablation,
    stage_for,
    summarise,
)


def test_every_cell_changes_the_labels_and_nothing_else():
    stage = parse_recipe({"finetune": {"sets": [{"source": "fret"}, {"source": "nli", "path": "x"}]}}).finetune
    changed = stage_for(stage, Cell("seed", "none"))
    assert changed.sets[0].options == {"positive": "seed", "negative": "none"}
    assert changed.objective == stage.objective
    assert changed.sets[1] == stage.sets[1]
    assert changed.trainer == stage.trainer
    assert stage.sets[0].options == {}


@pytest.mark.parametrize(("recipes", "weight"), [(0, 1.0), (0.3, 0.3)])
def test_the_cell_of_lists_has_the_same_queries(recipes, weight):
    """Lists teach without a known answer, too: on the rows that have none the other cells would not train."""
    objective = {"kl": {"weight": recipes}}
    stage = parse_recipe({"finetune": {"sets": [{"source": "fret"}], "objective": objective}}).finetune
    changed = stage_for(stage, CELLS[-1])
    assert changed.objective.kl.weight == kl_weight(stage) == weight
    assert changed.sets[0].options == {"positive": "p_1", "negative": "p_N", "unanswered": False}
    assert stage_for(stage, PAPER).objective.kl.weight == 0
    assert summarise({PAPER: [np.ones(2)], CELLS[-1]: [np.ones(2)]}, weight)[1]["kl"] == weight


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sets": [{"source": "nli", "path": "x"}]}, "no set with source 'fret'"),
        (
            {"sets": [{"source": "fret", "objective": {"kl": {"weight": 1}}}]},
            r"sets.0.objective.kl would hold in every",
        ),
        ({"sets": [{"source": "fret", "objective": {"hard_negatives": 0}}]}, r"sets.0.objective.hard_negatives would"),
        ({"sets": [{"source": "fret", "blocks": {}}]}, "sets.0.blocks: a block has no labels"),
        ({"objective": {"hard_negatives": 0}}, "the cells do not differ"),
        ({"objective": {"contrastive_weight": 0, "kl": {"weight": 1}}}, "the cells do not differ"),
        ({"trainer": {"end_with": "best"}}, "trainer.end_with: best and trainer.patience need trainer.evaluate"),
        ({"trainer": {"patience": 1}}, "trainer.end_with: best and trainer.patience need trainer.evaluate"),
    ],
)
def test_what_would_hold_in_every_cell_is_refused(changes, match):
    with pytest.raises(ConfigError, match=match):
        check_stage(parse_recipe({"finetune": {"sets": [{"source": "fret"}], **changes}}).finetune)


def test_the_table_compares_with_the_papers_cell_by_query():
    generator = np.random.default_rng(0)
    paper = [generator.random(300) for _ in range(2)]
    table = summarise({PAPER: paper, Cell("seed", "none"): [run - 0.2 for run in paper]})
    assert table[0]["against_paper"] == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(table[1]["against_paper"], [-0.2] * 3)
    assert table[1]["seeds"] == 2
    lines = as_markdown(table).splitlines()
    assert len(lines) == 4
    assert "-0.2000 (-0.2000 to -0.2000)" in lines[3]


def test_cells_that_are_the_same_are_named():
    scores = {cell: [np.full(3, float(number))] for number, cell in enumerate(CELLS)}
    assert equal_cells(scores) == []
    scores[PAPER] = scores[CELLS[3]]
    [line] = equal_cells(scores)
    assert line.startswith("p_1, p_N has the scores of p_1, none in every query: ")


def test_the_spread_is_that_of_a_sample():
    [row] = summarise({PAPER: [np.zeros(2), np.ones(2)]})
    assert row["spread_over_seeds"] == pytest.approx(0.5**0.5)
    (alone,) = summarise({PAPER: [np.zeros(2)]})
    assert alone["spread_over_seeds"] is None
    assert "| - |" in as_markdown([alone])


def test_the_interval_covers_queries_and_seeds():
    generator = np.random.default_rng(1)
    by_query = generator.normal(0.1, 1.0, 400)
    low, high = interval(by_query[None])  # one seed: the textbook's interval over queries
    half = 1.96 * by_query.std() / 400**0.5
    np.testing.assert_allclose([low, high], [by_query.mean() - half, by_query.mean() + half], atol=0.15 * half)
    by_seed = generator.normal(0.1, 1.0, 30)
    low, high = interval(np.repeat(by_seed[:, None], 5, axis=1))  # queries all alike: over seeds
    half = 1.96 * by_seed.std() / 30**0.5
    np.testing.assert_allclose([low, high], [by_seed.mean() - half, by_seed.mean() + half], atol=0.15 * half)
    assert interval(by_query[None]) == interval(by_query[None])


@pytest.mark.long
def test_all_cells_are_trained_and_measured_and_not_again(tiny_backbone, corpus_file, tmp_path, monkeypatch):
    calls = []

    def rows(folder, options, task, context, listed):
        calls.append((context.seed, options.positive, options.negative, listed))
        for n in range(12):
            documents = Document(f"bart dort {n}"), (Document(f"dom {n}"),)
            yield TrainingRow("search result", f"bank {n}", *documents, scores=(-0.1, -2.0) if listed else None)

    monkeypatch.setattr("gecko_train.data.sources.fret.FretLists", rows)
    (tmp_path / "fret").mkdir()
    recipe = parse_recipe(
        {
            "output": str(tmp_path / "run"),
            "corpus": {"path": str(corpus_file)},
            "student": {"model": str(tiny_backbone), "backbone": True, "dims": [32, 16], "max_seq_length": 64},
            "evaluation": {"queries": 5, "max_documents": 10},
            "prefinetune": {"enabled": False, "sets": [{"source": "title-body"}]},
            "finetune": {
                "sets": [{"source": "fret", "path": str(tmp_path / "fret")}],
                "trainer": {"batch_size": 4, "max_steps": 1, "precision": "fp32"},
            },
        }
    )
    console = Console(file=io.StringIO(), width=140)
    table = run_ablation(recipe, seeds=2, console=console)
    assert len(table) == len(CELLS) == 7
    assert len(calls) == 14
    assert sum(1 for call in calls if call[3]) == 2
    assert json.loads((tmp_path / "run" / "ablation.json").read_text()) == table
    screen = console.file.getvalue()
    assert "Labelling (known-item nDCG@10, 2 seeds)" in screen
    assert "[1/15] read the corpus" in screen
    assert "[15/15] p_1, p_N, KL (seed 1)" in screen
    assert run_ablation(recipe, seeds=2, console=console) == table
    assert len(calls) == 14
