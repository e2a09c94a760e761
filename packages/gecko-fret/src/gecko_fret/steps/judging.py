"""Judges at work: pairs to rows of judgements. The steps that measure and that score share it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from gecko_core.errors import BackendError
from gecko_fret.config import PAPER_JUDGES, ScoreConfig
from gecko_fret.judges import JUDGES, Batch, Judge, JudgeSetup, Pair, ask_llm
from gecko_fret.judges.joint import joint_prompt
from gecko_fret.models import llm_settings
from gecko_fret.prompting import load_prompts
from gecko_fret.steps.base import BuildContext, StepResult
from gecko_fret.steps.parts import Layout
from gecko_fret.steps.plan import TEMPLATE_TOKENS, Plan


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """What every judge said of one pair; None where it was not asked. In the parts each judge has a column."""

    query_id: str
    candidate_id: str
    judgements: Mapping[str, float | list[float] | None]


class Panel:
    """Several judges of the same pairs.

    Args:
        setup: corpus, models and configuration.
        judges: who judges.
    """

    def __init__(self, setup: JudgeSetup, judges: Sequence[Judge]):
        self._setup, self._judges = setup, judges
        self._prompts = load_prompts(setup.config.score.prompt)
        self._joint = joint_prompt(setup.config.score)

    def __call__(self, pairs: Sequence[Pair]) -> StepResult[ScoredPair]:
        """Let every judge judge these pairs, one row each; counted are pairs and the tokens that the LLM read."""
        batch = Batch(pairs, self._setup, self._prompts, self._joint, [judge.name for judge in self._judges])
        counters = {"pairs": len(pairs), "prompt_tokens": 0}
        columns: dict[str, Sequence[Any]] = {}
        notes = self._label_notes()
        for judge in self._judges if pairs else ():
            before = self._prompt_tokens()
            columns[judge.name] = _checked(judge.name, judge.judge(batch), pairs)
            if judge.uses_llm:  # what several judges share is counted for the first one
                counters[f"{judge.name}_tokens"] = self._prompt_tokens() - before
                counters["prompt_tokens"] += counters[f"{judge.name}_tokens"]
        names = self._setup.config.score.all_judges
        scored = [
            ScoredPair(
                pair.query_id,
                pair.passage.id,
                {name: columns[name][place] if name in columns else None for name in names},
            )
            for place, pair in enumerate(pairs)
        ]
        return StepResult(scored, counters=counters | batch.counters | (self._label_notes() - notes))

    def _label_notes(self) -> Counter[str]:
        if not any(judge.uses_llm for judge in self._judges):
            return Counter()
        return self._setup.models.llm(self._setup.config.llm).usage.label_notes()

    def _prompt_tokens(self) -> int:
        if not any(judge.uses_llm for judge in self._judges):
            return 0
        return self._setup.models.llm(self._setup.config.llm).usage.prompt_tokens


def _checked(name: str, judgements: Sequence[Any], pairs: Sequence[Pair]) -> Sequence[Any]:
    """Judgements, one of each pair and all of them numbers.

    Raises:
        BackendError: a model gave something that is no number, such as one whose weights are broken.
    """
    for pair, judgement in zip(pairs, judgements, strict=True):
        if judgement is not None and not np.isfinite(judgement).all():
            raise BackendError(
                f"judge {name}: {judgement} of query {pair.query_id!r} and passage {pair.passage.id!r} is no number; "
                "see that its model is sound (float16 may overflow: take bfloat16 or float32)"
            )
    return judgements


def make_panel(build: BuildContext, names: Collection[str]) -> Panel:
    """The judges with these names, in the order of the configuration."""
    setup = JudgeSetup(build.config, build.models, build.corpus)
    return Panel(setup, [JUDGES[name](setup) for name in build.config.score.all_judges if name in names])


def llm_passes(config: ScoreConfig, asked: Collection[str] | None = None) -> int:
    """Forward passes of the scoring LLM for each pair.

    Args:
        config: section ``score``.
        asked: names of the judges that are asked; None: all of the configuration.
    """
    names = set(config.all_judges if asked is None else asked)
    # A measured build may name a judge that is not registered here.
    own = sum(JUDGES[name].passes(config) for name in names if name in JUDGES)
    joint = joint_prompt(config)
    return own - 1 if joint and {"ql", joint.judge} <= names else own


def llm_reads(plan: Plan, pairs: float) -> tuple[int, float]:
    """Forward passes of the scoring LLM for each pair, and the tokens that it reads for so many pairs."""
    config, passes = plan.config, llm_passes(plan.config.score)
    tokens = plan.text_tokens(config.score.passage_tokens) + config.generate.max_new_tokens + TEMPLATE_TOKENS
    return passes, float(round(pairs * passes * tokens))


def scored_layout(names: Sequence[str]) -> Layout[ScoredPair]:
    """The two ids, and a column for every judge."""
    schema = pa.schema(
        [
            ("query_id", pa.string()),
            ("candidate_id", pa.string()),
            *((name, JUDGES[name].column) for name in names),
        ]
    )
    return Layout(
        schema,
        lambda row: {"query_id": row.query_id, "candidate_id": row.candidate_id, **row.judgements},
        lambda record: ScoredPair(record["query_id"], record["candidate_id"], {name: record[name] for name in names}),
    )


def judging_fingerprint(build: BuildContext) -> list[Any]:
    """What decides the judgements: settings, prompts, the LLM, the judges. Of the paper's two as in version 0.1."""
    config, models = build.config, build.models
    score = config.score
    joint = joint_prompt(score)
    own = {name: JUDGES[name].fingerprint(config, models) for name in score.all_judges}
    further = [[name, *decides] for name, decides in own.items() if decides or name not in PAPER_JUDGES]
    missing = [name for name in PAPER_JUDGES if name not in score.all_judges]
    return [
        score.model_dump(include={"prompt", "passage_tokens", "query_tokens"})
        | {"mode": "joint" if joint else "separate"},
        load_prompts(score.prompt).hash,
        *([llm_settings(config.llm), models.llm_fingerprint(config.llm)] if ask_llm(score.all_judges) else []),
        *further,
        *([["without", missing]] if missing else []),
        *([["blocks"]] if score.blocks else []),
        *([["joint", joint.judge]] if joint and joint.judge not in PAPER_JUDGES else []),
    ]
