"""Yes or no: whether the LLM calls a passage relevant to a query that it has read after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, model_validator

from gecko_fret.config import FretConfig, ScoreConfig
from gecko_fret.judges.base import Batch, Judge, JudgeSetup
from gecko_fret.judges.calibration import calibration_fingerprint, joint_label_logs, label_logs
from gecko_fret.llm.protocol import ScoreRequest
from gecko_fret.models import Models
from gecko_fret.prompting import RelevanceBlock, fill, load_prompt


class YesNoBlock(RelevanceBlock):
    """How a yes or a no is asked for; ``labels`` are the words for no and for yes, in that order.

    Either ``template`` with demonstrations, or ``full``: the whole prompt of a reranker that has one of its own, with
    the marks of its chat. It may mention {instruction}.
    """

    instruction: str = ""
    template: str = "Passage: {passage}\nQuery: {query}\nRelevant:"
    answer: str = " {label}"
    labels: list[str] = Field(default=["No", "Yes"], min_length=2, max_length=2)
    full: str | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> YesNoBlock:
        for key, text, names in (
            ("full" if self.full else "template", self.full or self.template, ("passage", "query")),
            ("answer", self.answer, ("label",)),
        ):
            for name in names:
                if f"{{{name}}}" not in text:
                    raise ValueError(f"{key} does not mention {{{name}}}")
        if self.labels[0] == self.labels[1]:
            raise ValueError(f"labels: both are {self.labels[0]!r}; name the word for no, then the one for yes")
        for pair in self.demonstrations:
            if pair.label not in self.labels:
                raise ValueError(f"demonstrations: label {pair.label!r} is not one of {self.labels}")
        if self.full and self.demonstrations:
            raise ValueError("demonstrations: full has none; write them into it, or use template")
        return self

    def classification(self, passage: str, query: str) -> ScoreRequest:
        """A request after which the LLM says yes or no.

        Where the template has the passage first, the request's context ends with it: all queries of a passage share it.
        """
        prefix, template = self._full_parts() if self.full else (self._shown(), self.template)
        dialogue = None if self.full else self.dialogue(passage, query)
        if "{passage}" in template.partition("{query}")[2]:
            return ScoreRequest(prefix, fill(template, passage=passage, query=query), dialogue=dialogue)
        context, space, after = self._around_query(template)
        return ScoreRequest(prefix, fill(context, passage=passage), tail=space + query + after, dialogue=dialogue)

    @property
    def reads_query_last(self) -> bool:
        """Whether the likelihood of the query, too, can be read on the way to the label."""
        return not self.full and "{passage}" not in self.template.partition("{query}")[2]

    def joint(self, passage: str, query: str) -> ScoreRequest:
        """``classification`` with the query as a continuation of its own, whose log-probability is asked for."""
        context, space, after = self._around_query(self.template)
        return ScoreRequest(self._shown(), fill(context, passage=passage), continuation=space + query, tail=after)

    @staticmethod
    def _around_query(template: str) -> tuple[str, str, str]:
        """What is before the query, the space that belongs to its first token, and what is after it."""
        before, _, after = template.partition("{query}")
        context = before.rstrip(" ")
        return context, before[len(context) :], after

    def _full_parts(self) -> tuple[str, str]:
        """The whole prompt, cut at the last line break before a text of its own."""
        whole = fill(str(self.full), instruction=self.instruction)
        start = min(whole.index("{passage}"), whole.index("{query}"))
        end = whole.rfind("\n", 0, start) + 1
        return whole[:end], whole[end:]

    def _shown(self) -> str:
        pairs = [
            fill(self.template, passage=d.passage, query=d.query) + fill(self.answer, label=d.label)
            for d in self.demonstrations
        ]
        return "".join(f"{text}\n\n" for text in (self.instruction, *pairs) if text)


class YesNo(Judge):
    """log P(yes) - log P(no), the two labels' logits alone; the query stands after the passage.

    With ``score.calibrate`` less the same for an empty query: how readily the LLM says yes to the passage at all.
    """

    name = "yes-no"
    uses_llm = True

    def __init__(self, setup: JudgeSetup):
        super().__init__(setup)
        self._block = _block(setup.config)

    def judge(self, batch: Batch) -> Sequence[float]:
        """The log-odds of yes for every pair."""
        if batch.is_joint(self.name):
            logs = joint_label_logs(batch)
        else:
            calibrate = bool(batch.config.calibrate)
            logs = label_logs(batch, self._block.classification, self._block.label_strings, calibrate=calibrate)
        return [yes - no for no, yes in logs]

    @classmethod
    def check(cls, config: FretConfig) -> None:
        """The prompt can be read."""
        _block(config)

    @classmethod
    def prompt_hashes(cls, config: FretConfig) -> dict[str, str]:
        """Of its prompt."""
        return {"score.yes_no": _block(config).hash}

    @classmethod
    def passes(cls, config: ScoreConfig) -> int:
        """One; and one for the empty query, which blocks make next to nothing of."""
        return 1 + bool(config.calibrate and not config.blocks)

    @classmethod
    def fingerprint(cls, config: FretConfig, models: Models) -> list[Any]:
        """Its prompt, and whether it is calibrated."""
        return [_block(config).hash, *calibration_fingerprint(config)]


def _block(config: FretConfig) -> YesNoBlock:
    return load_prompt(config.score.yes_no.prompt, YesNoBlock)
