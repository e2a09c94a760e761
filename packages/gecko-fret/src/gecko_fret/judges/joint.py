"""One pass for the query's likelihood and a label: the query is read on the way to the label (``score.mode``)."""

from __future__ import annotations

from gecko_core.errors import ConfigError
from gecko_fret.config import ScoreConfig
from gecko_fret.judges.base import JointPrompt
from gecko_fret.judges.ql import QueryLikelihood
from gecko_fret.judges.rc import RelevanceClassification
from gecko_fret.judges.yes_no import YesNo, YesNoBlock
from gecko_fret.prompting import load_prompt, load_prompts


def joint_prompt(config: ScoreConfig) -> JointPrompt | None:
    """The prompt from which ``ql`` and a label judge are read together, that of ``yes-no`` where it is asked.

    Args:
        config: section ``score``.

    Returns:
        None where each judge has a pass of its own.

    Raises:
        ConfigError: ``mode: joint`` with a prompt that has no such form.
    """
    judges = config.judges or ()
    if config.mode == "separate" or (config.mode == "auto" and QueryLikelihood.name not in judges):
        return None
    if YesNo.name in judges:
        block = load_prompt(config.yes_no.prompt, YesNoBlock)
        if block.reads_query_last:
            return JointPrompt(YesNo.name, block.joint, block.label_strings)
        if config.mode == "auto":
            return None
        raise ConfigError(
            f"score.mode joint: in prompt {config.yes_no.prompt!r} the likelihood of a query cannot be read, because "
            "it has the query first, or is a reranker's whole prompt; use auto or separate"
        )
    prompts = load_prompts(config.prompt)
    if config.mode == "auto" and (prompts.joint is None or RelevanceClassification.name not in judges):
        return None
    prompts.joint_scoring("", "")
    return JointPrompt(RelevanceClassification.name, prompts.joint_scoring, prompts.label_strings("joint"))
