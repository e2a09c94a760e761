"""Few-shot prompts as data: read a prompt file, render it for writing and for scoring."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gecko_core.errors import ConfigError
from gecko_core.io import Section, parse_settings, read_yaml
from gecko_fret.control_tokens import as_plain_text
from gecko_fret.corpus.passages import Passage
from gecko_fret.llm.protocol import Dialogue, JsonForm, ScoreRequest, WriteRequest

#: Stands for the passage where the model is asked what it would write without one.
NO_PASSAGE = "N/A"


class PromptBlock(Section):
    """A block of a prompt file. A judge with a prompt of its own subclasses it, or takes one of the blocks below."""

    model_config = ConfigDict(frozen=True)

    @property
    def hash(self) -> str:
        """sha256 of everything in the block."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


Block = TypeVar("Block", bound=PromptBlock)


class Demonstration(PromptBlock):
    """A passage and a query of one kind of task; ``task`` is the task line shown, by default the kind."""

    kind: str
    passage: str
    query: str
    task: str | None = None


class JudgedPair(PromptBlock):
    """A query and a passage with a relevance label."""

    query: str
    passage: str
    label: str


class AnswerForm:
    """The form of an answer, such as "{task} | Query: {query}", and how an answer of that form is read.

    A regular expression of the whole form would backtrack for minutes over a few hundred blanks: here each of the
    form's fixed parts is searched for once, from the left, in linear time.

    Args:
        form: the form; every run of blanks in it stands for blanks and tabs.
    """

    def __init__(self, form: str):
        lead, first, rest = _before_mark(form.strip())
        between, second, tail = _before_mark(rest)
        self._names, self._apart = (first, second), between.strip()
        self._lead, self._between, self._tail = (
            re.compile(_fixed(lead)),
            re.compile(_fixed(between)),
            re.compile(_fixed(tail) + r"\Z"),
        )

    def fullmatch(self, text: str) -> dict[str, str] | None:
        """Task and query of an answer; None for one of another form. White space around it does not count."""
        text = text.strip()
        if (lead := self._lead.match(text)) is None:
            return None
        if (between := self._between.search(text, lead.end() + 1)) is None:
            return None
        if (tail := self._tail.search(text, between.end() + 1)) is None:
            return None
        found = text[lead.end() : between.start()], text[between.end() : tail.start()]
        if any("\n" in part or (self._apart and self._apart in part) for part in found):
            return None
        return dict(zip(self._names, found, strict=True))


def _before_mark(form: str) -> tuple[str, str, str]:
    """The fixed text before the next of {task} and {query}, its name, and what follows it."""
    mark = re.search(r"\{(task|query)\}", form)
    assert mark is not None, "PromptSet has checked that both are there"
    return form[: mark.start()], mark[1], form[mark.end() :]


def _fixed(text: str) -> str:
    """A pattern of fixed text; a run of blanks is met at its start only, or a search would try every blank of it."""
    blanks, *others = (re.escape(piece) for piece in re.split(r" +", text))
    start = "" if blanks or not others else r"(?<![ \t])"
    return start + r"[ \t]++".join([blanks, *others])


class WrittenQuery(BaseModel):
    """A query, as servers that take a JSON schema answer."""

    model_config = ConfigDict(extra="forbid")

    query: str


class WrittenTask(BaseModel):
    """A task line and a query, likewise."""

    model_config = ConfigDict(extra="forbid")

    task: str
    query: str


class GenerateBlock(PromptBlock):
    """How queries are asked for; the keys of ``instructions`` are the kinds of tasks."""

    instructions: dict[str, str] = Field(min_length=1)
    tasks: Literal["closed", "open"] = "closed"
    template: str
    answer: str
    stop: list[str] = Field(default=["\n\n"], min_length=1)

    def turn(self, passage: str, task: str, query: str, given: bool) -> tuple[str, str]:
        """What is asked for a passage, and the answer; with ``given`` the task line belongs to the question."""
        asked = fill(self.template, passage=passage)
        if not given:
            return asked, fill(self.answer, task=task, query=query)
        lead, _, rest = self.answer.partition("{query}")
        line = lead.rstrip()
        return asked + fill(line, task=task), lead[len(line) :] + as_plain_text(query) + rest

    def json_form(self, shown: Sequence[tuple[str, str]], given: bool) -> JsonForm:
        """How a query is written as JSON; ``shown`` are the tasks and queries of the demonstrations."""
        tasks = [(as_plain_text(task), as_plain_text(query)) for task, query in shown]
        if given:
            return JsonForm(WrittenQuery, tuple(WrittenQuery(query=q) for _, q in tasks), lambda answer: answer.query)
        return JsonForm(WrittenTask, tuple(WrittenTask(task=t, query=q) for t, q in tasks), self._as_answer)

    def _as_answer(self, written: WrittenTask) -> str:
        """An answer in the demonstrations' form; unlike ``fill`` it leaves control tokens to who reads the answer."""
        return re.sub(r"\{(task|query)\}", lambda mark: str(getattr(written, mark[1])), self.answer)

    @cached_property
    def pattern(self) -> AnswerForm:
        """Reads an answer of the form that the demonstrations show, and nothing else."""
        return AnswerForm(self.answer)


class LikelihoodBlock(PromptBlock):
    """How the likelihood of a query is asked for."""

    instructions: dict[str, str] = Field(min_length=1)
    template: str
    answer: str


class RelevanceBlock(PromptBlock):
    """How a relevance label is asked for; ``labels`` is the scale from the lowest label up."""

    instruction: str
    template: str
    answer: str
    labels: list[str] = Field(min_length=2)
    demonstrations: list[JudgedPair] = Field(default_factory=list)

    @property
    def label_strings(self) -> list[str]:
        """What the LLM would write for each label, in the order of the scale."""
        return [fill(self.answer, label=label) for label in self.labels]

    def classification(self, passage: str, query: str) -> ScoreRequest:
        """A request after which the LLM gives a label."""
        dialogue = self.dialogue(passage, query)
        return ScoreRequest(*as_text(dialogue), dialogue=dialogue)

    def dialogue(self, passage: str, query: str) -> Dialogue:
        """The same before it is text."""
        shown = [
            (fill(self.template, passage=d.passage, query=d.query), fill(self.answer, label=d.label))
            for d in self.demonstrations
        ]
        return Dialogue(one_line(self.instruction), tuple(shown), fill(self.template, passage=passage, query=query))


class JointBlock(RelevanceBlock):
    """How likelihood and label are asked for in one pass."""

    label_template: str
    label_answer: str

    @property
    def label_strings(self) -> list[str]:
        """What the LLM would write for each label, in the order of the scale."""
        return [fill(self.label_answer, label=label) for label in self.labels]


class PromptSet(PromptBlock):
    """The prompts of one file. Rendering gives requests whose prefix is the same for all rows of a kind."""

    demonstrations: list[Demonstration]
    generate: GenerateBlock
    query_likelihood: LikelihoodBlock
    relevance: RelevanceBlock
    joint: JointBlock | None = None

    @model_validator(mode="after")
    def _templates_have_their_marks(self) -> PromptSet:
        for section, key, names in (
            ("generate", "template", ("passage",)),
            ("generate", "answer", ("task", "query")),
            ("query_likelihood", "template", ("passage",)),
            ("query_likelihood", "answer", ("query",)),
            ("relevance", "template", ("passage", "query")),
            ("relevance", "answer", ("label",)),
        ):
            text = getattr(getattr(self, section), key)
            for name in names:
                if f"{{{name}}}" not in text:
                    raise ValueError(f"{section}.{key} does not mention {{{name}}}")
        return self

    @model_validator(mode="after")
    def _answers_can_be_read(self) -> PromptSet:
        for stop in self.generate.stop:
            if stop in self.generate.answer:
                raise ValueError(
                    f"generate.stop: {stop!r} is part of generate.answer, so no answer would ever be complete"
                )
        if any(self.generate.answer.count(mark) > 1 for mark in ("{task}", "{query}")):
            raise ValueError("generate.answer: {task} and {query} must stand in it once each")
        if re.search(r"\{task\}\s*\{query\}", self.generate.answer):
            raise ValueError("generate.answer: nothing separates the task from the query")
        return self

    @model_validator(mode="after")
    def _sections_agree(self) -> PromptSet:
        labelled = [("relevance", self.relevance)] + ([("joint", self.joint)] if self.joint else [])
        for section, block in labelled:
            for pair in block.demonstrations:
                if pair.label not in block.labels:
                    raise ValueError(f"{section}.demonstrations: label {pair.label!r} is not one of {block.labels}")
        missing = [kind for kind in self.generate.instructions if kind not in self.query_likelihood.instructions]
        if missing:
            raise ValueError(f"query_likelihood.instructions has no {missing[0]!r}, which generate.instructions has")
        return self

    @property
    def kinds(self) -> list[str]:
        """The kinds of tasks that queries are written for, in the file's order."""
        return list(self.generate.instructions)

    def generation(self, kind: str, passage: str, seed: int) -> WriteRequest:
        """A request that the LLM completes with a task line and a query."""
        return WriteRequest(*as_text(self.writing(kind, passage)), seed)

    def writing(
        self,
        kind: str,
        passage: str,
        *,
        given: bool = False,
        demonstrations: Sequence[Demonstration] | None = None,
        instruction: str | None = None,
    ) -> Dialogue:
        """What the LLM is asked when it is to write a query.

        Args:
            kind: the kind of task.
            passage: the passage, on one line.
            given: whether the task is part of the question, so that the LLM answers with the query alone.
            demonstrations: shown instead of the file's own.
            instruction: given instead of the file's own.
        """
        block = self.generate
        shown = self._demonstrations_of(kind) if demonstrations is None else demonstrations
        return Dialogue(
            one_line(block.instructions[kind] if instruction is None else instruction),
            tuple(block.turn(d.passage, d.task or d.kind, d.query, given) for d in shown),
            block.turn(passage, kind, "", given)[0],
            block.json_form([(d.task or d.kind, d.query) for d in shown], given),
        )

    def likelihood(self, kind: str, passage: str, query: str) -> ScoreRequest:
        """A request whose continuation is the query: log P(query | passage, instruction, demonstrations)."""
        block = self.query_likelihood
        prefix = _prefix(
            block.instructions.get(kind, next(iter(block.instructions.values()))),
            [
                fill(block.template, passage=d.passage) + fill(block.answer, query=d.query)
                for d in self._demonstrations_of(kind)
            ],
        )
        context = fill(block.template, passage=passage)
        return ScoreRequest(prefix, context, continuation=fill(block.answer, query=query))

    def classification(self, passage: str, query: str) -> ScoreRequest:
        """A request after which the LLM gives a relevance label."""
        return self.relevance.classification(passage, query)

    def joint_scoring(self, passage: str, query: str) -> ScoreRequest:
        """A request that gives the query's log-probabilities and the label in one pass.

        Raises:
            ConfigError: the prompt file has no section for it.
        """
        block = self.joint
        if block is None:
            raise ConfigError("score.mode joint: the prompt file has no 'joint' section; add one or use separate")
        shown = [
            fill(block.template, passage=d.passage)
            + fill(block.answer, query=d.query)
            + block.label_template
            + fill(block.label_answer, label=d.label)
            for d in block.demonstrations
        ]
        return ScoreRequest(
            prefix=_prefix(block.instruction, shown),
            context=fill(block.template, passage=passage),
            continuation=fill(block.answer, query=query),
            tail=block.label_template,
        )

    def label_strings(self, mode: str) -> list[str]:
        """What the LLM would write for each label, in the order of the scale."""
        return (self.joint if mode == "joint" and self.joint else self.relevance).label_strings

    def _demonstrations_of(self, kind: str) -> list[Demonstration]:
        return [d for d in self.demonstrations if d.kind == kind]


def as_text(dialogue: Dialogue) -> tuple[str, str]:
    """A dialogue as plain text: (prefix, body). Dialogues that differ in ``asked`` alone share the prefix."""
    return _prefix(dialogue.instruction, [question + answer for question, answer in dialogue.shown]), dialogue.asked


def one_line(text: str) -> str:
    """Text as prompts show it: on one line, single spaces, marks of control tokens as plain text."""
    return as_plain_text(" ".join(text.split()))


def prompt_text(passage: Passage) -> str:
    """A passage as prompts show it: title and text on one line."""
    return one_line(f"{passage.title}: {passage.text}" if passage.title else passage.text)


def load_prompts(name: str) -> PromptSet:
    """Load packaged prompts, or those of a YAML file; see ``load_prompt``."""
    return load_prompt(name, PromptSet)


def load_prompt(name: str, kind: type[Block]) -> Block:
    """Load a packaged prompt file (``prompts/NAME.yaml``), or another YAML file.

    Args:
        name: a packaged prompt's name, or the path of a YAML file.
        kind: what the file holds.

    Raises:
        ConfigError: neither, or the file does not hold valid prompts; one line that names the key.
    """
    folder = resources.files("gecko_fret") / "prompts"
    packaged = folder / f"{name}.yaml"
    if "/" not in name and packaged.is_file():
        with resources.as_file(packaged) as path:
            values = read_yaml(path, "prompt")
    elif Path(name).is_file():
        values = read_yaml(name, "prompt")
    else:
        names = sorted(path.name[:-5] for path in folder.iterdir())
        raise ConfigError(f"prompt {name!r}: neither a packaged prompt ({', '.join(names)}) nor a YAML file")
    return parse_settings(kind, values, f"prompt {name!r}")


def _prefix(instruction: str, shown: list[str]) -> str:
    return "\n\n".join([one_line(instruction), *shown]) + "\n\n"


def fill(template: str, **values: str) -> str:
    """Replace {name} marks in one pass: other braces stay, and a value is never read as a template itself.

    Nor is it read as a control token: see :func:`as_plain_text`.
    """
    plain = {name: as_plain_text(value) for name, value in values.items()}
    return re.sub(r"\{(\w+)\}", lambda mark: plain.get(mark[1], mark[0]), template)
