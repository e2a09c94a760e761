"""Texts enriched by the LLM before they are encoded (Harris et al. 2024, arXiv 2404.12283); optional.

The LLM rewrites a passage, or says what it is about, by one of four packaged prompts or one of the user's own. What it
wrote stands beside the passage, with prompt and model; a rejected answer leaves the passage as it is. No other step
reads it: it is for encoding (``gecko_core.enriched``), where that has been measured to help.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from gecko_core.errors import ConfigError
from gecko_core.randomness import seed_of
from gecko_core.text_words import text_words
from gecko_fret.answers import special_token
from gecko_fret.config import EnrichConfig, FretConfig
from gecko_fret.control_tokens import CONTROL, as_written
from gecko_fret.corpus.passages import Passage
from gecko_fret.corpus.splitting import count_words
from gecko_fret.llm.protocol import LLM, ChatLLM, Completion, Dialogue, Sampling, WriteRequest
from gecko_fret.models import llm_settings
from gecko_fret.prompting import PromptBlock, as_text, fill, load_prompt, one_line
from gecko_fret.sentences import ends_sentence, split_sentences
from gecko_fret.steps.base import BuildContext, PartStep, StepResult, Work
from gecko_fret.steps.corpus import CORPUS
from gecko_fret.steps.parts import part_count
from gecko_fret.steps.plan import TEMPLATE_TOKENS, Plan, StepCost

#: The packaged prompts.
PROMPTS = ("enrich-context", "enrich-acronyms", "enrich-grammar", "enrich-metadata")

#: Why an answer is rejected; the order is that of checking.
REASONS = {
    "wordless": "the text has no words, and the answer can be about anything",
    "unfinished": "the answer reached enrich.max_new_tokens before its end",
    "special_token": "the answer holds a special token of a language model, such as <|im_start|>",
    "refusal": "the LLM talks about itself instead of the text",
    "short": "fewer words than enrich.min_length of the text's; of an addition, none",
    "long": "more words than enrich.max_length of the text's, and more than 40",
    "demonstration": "the answer is that of one of the prompt's demonstrations",
    "unchanged": "the answer has the words of the text",
    "language": "the answer does not look like enrich.language",
}

# Users write in the first person, too: "I am unable to verify my identity" refuses nothing. What is said of a task may.
_TASK = r"(?:this|that|it|you|(?:the|your) (?:text|request|question|task|message|passage|sentence))"
_REFUSAL = re.compile(
    r"(?:(?:sure|certainly|of course)[,!.]|as an? (?:ai|language model)\b|i(?:'m| am) (?:sorry|an ai)\b"
    r"|i(?: cannot| can't| can not|(?:'m| am) (?:unable|not able) to) (?:(?:help|assist|fulfil)\b"
    rf"|(?:rewrite|provide|correct|understand|do|complete|answer) {_TASK}\b)"
    r"|please provide\b|there is no text\b|no text (?:was|is) (?:given|provided)\b)",
    re.IGNORECASE,
)
_ANY_LENGTH = 40  # words of an answer that are never too many: a short text may need as many of context


class EnrichedDemonstration(PromptBlock):
    """A text, and what is written for it."""

    text: str
    enriched: str


class EnrichBlock(PromptBlock):
    """A prompt file of ``enrich.prompt``.

    ``use`` says what becomes of an answer: it stands ``instead`` of the text, or ``beside`` it, on a line of its own.
    """

    instruction: str
    template: str
    answer: str
    use: Literal["instead", "beside"]
    stop: list[str] = Field(default=["\n"], min_length=1)
    demonstrations: list[EnrichedDemonstration] = Field(default_factory=list)

    @model_validator(mode="after")
    def _marks_are_there(self) -> EnrichBlock:
        for key in ("template", "answer"):
            if "{text}" not in getattr(self, key):
                raise ValueError(f"{key} does not mention {{text}}")
        for shown in self.demonstrations:
            for stop in self.stop:
                if stop in shown.enriched:
                    raise ValueError(f"stop: {stop!r} is part of a demonstration, so no such answer would be complete")
        return self

    def asking(self, text: str) -> Dialogue:
        """What the LLM is asked for a text on one line."""
        shown = tuple(
            (fill(self.template, text=one_line(d.text)), fill(self.answer, text=one_line(d.enriched)))
            for d in self.demonstrations
        )
        return Dialogue(one_line(self.instruction), shown, fill(self.template, text=text))


@dataclass(frozen=True, slots=True)
class EnrichedText:
    """A passage's text, and what is encoded in its place; the columns of the parts."""

    id: str
    text: str
    enriched: str
    prompt: str
    model: str
    tokens: int


class Enrich:
    """Passages to enriched texts.

    A text of more tokens than ``enrich.passage_tokens`` is read up to the end of a sentence or word before; where the
    answer stands instead of it, the rest follows unchanged.

    Args:
        llm: the LLM.
        prompt: the prompt.
        config: section ``enrich``.
        seed: the build's seed.
    """

    def __init__(self, llm: LLM, prompt: EnrichBlock, config: EnrichConfig, seed: int):
        self._llm, self._prompt, self._config, self._seed = llm, prompt, config, seed
        self._shown = [text_words(shown.enriched) for shown in prompt.demonstrations]
        self._name = Path(config.prompt or "").stem

    def __call__(self, passages: Sequence[Passage]) -> StepResult[EnrichedText]:
        """Enrich these passages, in their order."""
        texts = [" ".join(passage.text.split()) for passage in passages]
        cut = self._llm.truncate(texts, self._config.passage_tokens)
        read = [_whole(part, text) for part, text in zip(cut, texts, strict=True)]
        before = (self._llm.usage.prompt_tokens, self._llm.usage.generated_tokens)
        requests = [self._request(p.id, text) for p, text in zip(passages, read, strict=True)]
        config = self._config
        sampling = Sampling(
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
            stop=tuple(self._prompt.stop),
        )
        result = StepResult[EnrichedText]([])
        for passage, text, part, completion in zip(
            passages, texts, read, self._llm.generate(requests, sampling), strict=True
        ):
            answer = as_written(completion.text).strip()
            if fault := self._fault(answer, part, completion):
                result.rejects.append(ENRICH.reject(fault[0], passage.id, completion.text, fault[1]))
                continue
            enriched = answer + text[len(part) :] if self._prompt.use == "instead" else f"{passage.text}\n{answer}"
            name, tokens = self._llm.name, completion.tokens
            result.rows.append(EnrichedText(passage.id, passage.text, enriched, self._name, name, tokens))
        after = (self._llm.usage.prompt_tokens, self._llm.usage.generated_tokens)
        result.counters = {"prompt_tokens": after[0] - before[0], "generated_tokens": after[1] - before[1]}
        return result

    def _request(self, identifier: str, text: str) -> WriteRequest:
        dialogue = self._prompt.asking(text)
        chat, llm = self._config.chat, self._llm
        rendered = llm.chat(dialogue) if chat != "never" and isinstance(llm, ChatLLM) else None
        if rendered is None and chat == "always":
            raise ConfigError(f"enrich.chat: always, but LLM {llm.name!r} has no chat template; use auto")
        prefix, body = rendered or as_text(dialogue)
        return WriteRequest(prefix, body, seed_of("enrich", self._seed, identifier), dialogue=dialogue)

    def _fault(self, answer: str, text: str, completion: Completion) -> tuple[str, str] | None:
        """The reason, with its detail, why an answer is rejected."""
        words, of_text = count_words(answer), count_words(text)
        beside = self._prompt.use == "beside"
        if not text_words(CONTROL.sub(" ", text)):
            return "wordless", ""
        if not completion.finished:
            return "unfinished", f"{completion.tokens} tokens"
        if special := special_token(answer):
            return "special_token", special
        if (refused := _REFUSAL.match(answer)) and not _REFUSAL.match(text):
            return "refusal", refused[0]
        if words < (1 if beside else max(1, self._config.min_length * of_text)):
            return "short", f"{words} words for {of_text}"
        if words > max(_ANY_LENGTH, self._config.max_length * of_text):
            return "long", f"{words} words for {of_text}"
        return self._fault_of_words(answer, text)

    def _fault_of_words(self, answer: str, text: str) -> tuple[str, str] | None:
        from gecko_fret.corpus.cleaning import looks_like

        words = text_words(answer)
        if words == text_words(text):
            return "unchanged", ""
        if words in self._shown:
            return "demonstration", ""
        language = self._config.language
        return ("language", "") if language and not looks_like(answer, language) else None


def _whole(part: str, text: str) -> str:
    """The begin of a text up to the end of its last sentence, of its last word where that is less than half of it.

    Args:
        part: the begin of the text, cut anywhere.
        text: the text, without white space but single blanks.
    """
    if part == text or (ends_sentence(part) and text[len(part)] == " "):
        return part
    sentences = part[: part.rfind(split_sentences(part)[-1])].rstrip()
    if 2 * len(sentences) >= len(part):
        return sentences
    if text[len(part)] != " " and " " in part:
        return part[: part.rfind(" ")]
    while part and unicodedata.category(text[len(part)]).startswith("M"):  # of a script without spaces
        part = part[:-1]
    return part


class EnrichStep(PartStep[Passage, EnrichedText]):
    """The corpus' passages to enriched texts, where ``enrich.prompt`` names a prompt."""

    name = "enrich"
    folder = "enriched"
    row = EnrichedText
    unit = "passages"
    counted_as = "enriched"
    metered = True
    upstream = (CORPUS,)

    def depends_on(self, config: FretConfig) -> tuple[Any, ...]:
        """The corpus, where it is enriched."""
        return (CORPUS,) if config.enrich.prompt else ()

    def fingerprint(self, build: BuildContext) -> list[Any]:
        """Seed, settings, prompt and LLM. Where nothing is enriched, nothing decides."""
        config = build.config
        if not config.enrich.prompt:
            return []
        settings = config.enrich.model_dump(exclude={"prompt"})
        llm = [llm_settings(config.llm), build.models.llm_fingerprint(config.llm)]
        return [config.seed, settings, load_prompt(config.enrich.prompt, EnrichBlock).hash, *llm]

    def prompt_hashes(self, config: FretConfig) -> dict[str, str]:
        """The prompt."""
        return {"enrich": load_prompt(config.enrich.prompt, EnrichBlock).hash} if config.enrich.prompt else {}

    def check(self, config: FretConfig) -> None:
        """See ``Step.check``: a prompt that cannot be read, a language that cannot be told."""
        if config.enrich.prompt:
            load_prompt(config.enrich.prompt, EnrichBlock)
            from gecko_fret.corpus.cleaning import check_language

            check_language("enrich.language", config.enrich.language)

    def estimate(self, plan: Plan) -> StepCost | None:
        """See ``Step.estimate``."""
        config = plan.config.enrich
        if not config.prompt:
            return None
        read = plan.passages * (plan.text_tokens(config.passage_tokens) + TEMPLATE_TOKENS)
        written = float(plan.passages * min(config.max_new_tokens, 2 * plan.text_tokens(config.passage_tokens)))
        line = f"{plan.passages} passages by {config.prompt}: {read:.0f} tokens read, about {written:.0f} written"
        return StepCost(line, plan.passages, read, written)

    def part_count(self, build: BuildContext) -> int:
        """Parts that the passages fill; none where nothing is enriched."""
        return part_count(len(build.corpus), build.config.enrich.part_size) if build.config.enrich.prompt else 0

    def units(self, build: BuildContext, number: int) -> int:
        """Passages of part ``number``."""
        size = build.config.enrich.part_size
        return min(size, len(build.corpus) - number * size)

    def inputs(self, build: BuildContext, number: int) -> Sequence[Passage]:
        """Passages of part ``number``."""
        size = build.config.enrich.part_size
        return list(build.corpus[number * size : (number + 1) * size])

    def make(self, build: BuildContext) -> Work[Passage, EnrichedText]:
        """Load the LLM."""
        config = build.config
        prompt = load_prompt(config.enrich.prompt or "", EnrichBlock)
        return Enrich(build.models.llm(config.llm), prompt, config.enrich, config.seed)


ENRICH = EnrichStep()
