"""The openai backend: any server with OpenAI's completions or chat API."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from gecko_core.errors import BackendError
from gecko_core.randomness import seed_of
from gecko_fret.llm.alignment import PART
from gecko_fret.llm.answers import Unusable
from gecko_fret.llm.capabilities import Capabilities
from gecko_fret.llm.chat import chat_messages
from gecko_fret.llm.choices import (
    alternatives_of_first_word,
    alternatives_of_next_token,
    check_logprobs,
    cut_at_stop,
    read_choice,
    read_choices,
    without_thinking,
)
from gecko_fret.llm.client import ApiClient, Refused
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.echo import EchoedPrompt
from gecko_fret.llm.labels import LabelReading, begins_another, from_alternatives, from_samples
from gecko_fret.llm.lanes import usage_here
from gecko_fret.llm.loading import load_tokenizer
from gecko_fret.llm.pace import Spent
from gecko_fret.llm.probe import probe, request_base
from gecko_fret.llm.protocol import Completion, Dialogue, JsonForm, Sampling, Scored, ScoreRequest, Usage, WriteRequest
from gecko_fret.llm.schema import read_form, response_format
from gecko_fret.llm.segments import LabelTokens, SegmentTokenizer, Tokenised, by_context, in_order, softmax

_CHARACTERS_PER_TOKEN = 4  # where no tokenizer is named: what English text averages
_LABEL_TOKENS = 4  # of an answer over chat: a space or a line break may come before the label
_FORM_TOKENS = 24  # of an answer by a JSON schema: names, quotes and white space around what is written
_PPM = 1_000_000


def cut_by_characters(texts: Sequence[str], max_tokens: int) -> list[str]:
    """Cut each text, between two words, to about so many tokens, where nobody here knows the tokens."""
    most = max_tokens * _CHARACTERS_PER_TOKEN
    return [text if len(text) <= most else text[:most].rsplit(" ", 1)[0] for text in texts]


class OpenAILLM:
    """Completions or chat over HTTP, many requests in flight.

    Completions: with a tokenizer, prompts are sent as token ids and scores are those of the other backends; without
    one, as text, and the continuation is found by its character offsets. Chat: demonstrations are turns, and labels are
    read from the likeliest tokens of the answer, or from sampled answers where a server shows none.

    A row is never skipped: when a request finally fails, the whole call raises ``BackendError``, and the parts on disk
    stay.

    Args:
        config: the configuration section.
        tokenizer: the tokenizer of the served model.
        capabilities: what the server can do; None: it is asked when that is first needed.
    """

    def __init__(
        self,
        config: LLMConfig,
        tokenizer: SegmentTokenizer | None = None,
        capabilities: Capabilities | None = None,
    ):
        self.name, self._usage = config.model, Usage()
        self.fingerprint = self.fingerprint_of(config)
        self._config, self._tokenizer = config, tokenizer
        self._client, self._capabilities = ApiClient(config), capabilities
        self._takes_many = self._knows_schemas = True

    @classmethod
    def load(cls, config: LLMConfig) -> OpenAILLM:
        """Make the backend, with the tokenizer that the configuration names; see ``Backend``.

        Raises:
            ModelError: there is no such tokenizer, or the client is not installed.
        """
        if not config.tokenizer:
            return cls(config)
        return cls(config, SegmentTokenizer(load_tokenizer(config.tokenizer), config.model))

    @classmethod
    def fingerprint_of(cls, config: LLMConfig) -> str:
        """The served name; what a server runs is not known here. See ``Backend``."""
        return f"openai:{config.model}"

    @property
    def usage(self) -> Usage:
        """What has been asked, of the part in the making where several are; see ``LLM``."""
        return usage_here(self._usage)

    @property
    def capabilities(self) -> Capabilities:
        """What the server can do; it is asked the first time.

        Raises:
            BackendError: it cannot be reached, or does not write.
        """
        if self._capabilities is None:
            self._capabilities = self._client.run([probe(self._client, self._config)])[0]
        return self._capabilities

    def recall(self, record: Mapping[str, Any]) -> None:
        """Go on where an earlier run was.

        Args:
            record: what ``record`` returned there.
        """
        if self._capabilities is None:
            self._capabilities = Capabilities.from_dict(record.get("capabilities") or {"": None})
        # A build that was begun before there were schemas goes on as it was begun.
        self._knows_schemas = "response_schema" in record or not record.get("capabilities")
        self._client.budget.spent = Spent(**record.get("spent", {}))
        self._client.models = list(record.get("models", []))

    def record(self) -> dict[str, Any]:
        """What the server can do, and what has been spent on it, as JSON values."""
        budget = self._client.budget
        spent = asdict(budget.spent)
        found = {"capabilities": self._capabilities.as_dict()} if self._capabilities else {}
        dollars = {"usd": round(budget.limits.cost(budget.spent), 6)} if budget.limits.has_prices else {}
        schemas = {"response_schema": self._config.response_schema} if self._knows_schemas else {}
        models = {"models": list(self._client.models)} if self._client.models else {}
        return {**found, **schemas, **models, "spent": spent, **dollars}

    def charge(self, prompt_tokens: int, generated_tokens: int) -> None:
        """See ``ServedLLM``."""
        spent = self._client.budget.spent
        self._client.budget.spent = Spent(
            spent.prompt_tokens + prompt_tokens, spent.generated_tokens + generated_tokens
        )

    def interrupt(self) -> None:
        """See ``ServedLLM``."""
        self._client.interrupt()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def truncate(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        """See ``LLM``."""
        if self._tokenizer is not None:
            return self._tokenizer.truncate(texts, max_tokens)
        return cut_by_characters(texts, max_tokens)

    def chat(self, dialogue: Dialogue) -> tuple[str, str] | None:
        """See ``ChatLLM``; over the chat API the server has the template, and requests bring their dialogue."""
        if self.capabilities.api == "chat":
            return dialogue.instruction, dialogue.asked
        return self._tokenizer.chat(dialogue) if self._tokenizer else None

    # -- writing

    def generate(self, requests: Sequence[WriteRequest], sampling: Sampling) -> list[Completion]:
        """See ``LLM``."""
        known = self.capabilities
        jobs = []
        for prompt, request in zip(self._prompts(requests), requests, strict=True):
            form = self._form(request)
            body = self._writing(sampling, form) | prompt | self._seed(request.seed)
            read = partial(self._written, stop=() if form else sampling.stop, form=form)
            jobs.append(self._client.ask(known.api, self._allowed(body), read))
        return self._client.run(jobs)

    def _form(self, request: WriteRequest) -> JsonForm | None:
        """The form of an answer by a JSON schema, where one is asked for."""
        takes = self.capabilities.api == "chat" and self.capabilities.schema and self._knows_schemas
        wanted = takes and self._config.response_schema == "auto" and request.dialogue
        return request.dialogue.form if wanted and request.dialogue else None

    def _writing(self, sampling: Sampling, form: JsonForm | None) -> dict[str, Any]:
        """A request without its prompt and seed."""
        known = self.capabilities
        body = self._common(sampling.max_new_tokens + (_FORM_TOKENS if form else 0))
        body |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
        if form:
            body |= {"response_format": response_format(form.model)}
        elif known.stop and not known.thinks:  # in thinking a stop string would end it before the answer
            body |= {"stop": list(sampling.stop)}
        return body | known.logprobs_of_answers

    def _prompts(self, requests: Sequence[WriteRequest]) -> list[dict[str, Any]]:
        if self.capabilities.api == "chat":
            return [self._messages(r.dialogue, r.prefix + r.body, self._form(r)) for r in requests]
        if self._tokenizer is not None:
            return [{"prompt": ids} for ids in self._tokenizer.write(requests)]
        return [{"prompt": r.prefix + r.body} for r in requests]

    def _written(self, answer: dict[str, Any], stop: Sequence[str], form: JsonForm | None) -> Completion:
        whole = read_choice(answer)
        if self.capabilities.logprobs:
            check_logprobs(whole, stop)
        choice = without_thinking(whole, stop) if self.capabilities.api == "chat" else cut_at_stop(whole, stop)
        text = read_form(choice.text, form) if form else None
        if self.capabilities.logprobs:  # of a part whose tokens nobody knows there are none
            check_logprobs(choice, stop)
        values = [value for value in choice.logprobs if value is not None]
        mean = sum(values) / len(values) if values else 0.0
        if not math.isfinite(mean):
            raise Unusable("log-probabilities that are not finite")
        counted = self._count(answer)
        if text is not None:
            return Completion(text, mean, len(values) or counted, True)
        return Completion(choice.text, mean, len(values) or counted, choice.finished)

    # -- scoring

    def score(
        self, requests: Sequence[ScoreRequest], labels: Sequence[str] = (), *, blocks: bool = False
    ) -> list[Scored]:
        """See ``LLM``; in blocks, requests of one prefix and context are sent one after the other.

        Raises:
            BackendError: likelihoods are asked for that the server does not give, or it cannot be reached.
        """
        known = self.capabilities
        if not known.echo and any(request.continuation for request in requests) and not labels:
            raise BackendError(
                f"{self._client.url}: the server returns no prompt log-probabilities (echo), needed to score"
            )
        order = by_context(requests) if blocks else range(len(requests))
        if known.alternatives and known.api == "chat" and (pair := begins_another(labels)):
            raise BackendError(
                f"{self._client.url}: of the labels {list(labels)} {pair[1]!r} begins with {pair[0]!r}, and over chat "
                "nothing tells whose tokens are shown; choose labels of which none begins another (0 to 9, A to J)"
            )
        rows, tokens = self._rows(requests, labels)
        scored = self._client.run([self._score(requests[number], rows[number], labels, tokens) for number in order])
        return in_order(order, scored)

    def _rows(
        self, requests: Sequence[ScoreRequest], labels: Sequence[str]
    ) -> tuple[Sequence[Tokenised | None], LabelTokens | None]:
        if self._tokenizer is None or self.capabilities.api == "chat":
            return [None] * len(requests), None
        tokens = self._tokenizer.labels(labels) if labels else None
        return self._tokenizer.score(requests, tokens.lead if tokens else ()), tokens

    async def _score(
        self, request: ScoreRequest, row: Tokenised | None, labels: Sequence[str], tokens: LabelTokens | None
    ) -> Scored:
        """Likelihood and labels of one request; in one pass where both are asked for and shown together."""
        known = self.capabilities
        logprob, number, tops = math.nan, 0, None
        prompt = EchoedPrompt.of(request, row, labelled=bool(labels), names=self._names)
        if request.continuation and known.echo:
            logprob, number, tops = await self._echo(prompt, max(known.alternatives, 1) if labels else 1)
        elif request.continuation:
            raise BackendError(
                f"{self._client.url}: the server returns no prompt log-probabilities (echo), needed to score"
            )
        if not labels:
            return Scored(logprob, number)
        if known.alternatives == 0 and not known.echo:
            reading = await self._sampled(request, labels)
            self.usage.labels_sampled += 1
        elif known.api == "chat":
            reading = from_alternatives(await self._likeliest_of_chat(request, labels), labels)
        else:
            reading = await self._of_completions(prompt, labels, tokens, tops)
        if reading.bound:
            self.usage.labels_bounded += 1
            self.usage.labels_bound_ppm += round(reading.bound * _PPM)
        return Scored(logprob, number, reading.probabilities, reading.bound)

    async def _echo(self, prompt: EchoedPrompt, alternatives: int) -> tuple[float, int, Mapping[str, float] | None]:
        """The continuation's mean log-probability and number of tokens, and the likeliest tokens after the prompt."""
        body = self._common(1) | {"prompt": prompt.whole, "echo": True, "logprobs": alternatives}
        total, number, tops = await self._client.ask(
            "completions", self._allowed(body), lambda answer: self._counted(answer, prompt.read)
        )
        return total / number, number, tops

    async def _of_completions(
        self,
        prompt: EchoedPrompt,
        labels: Sequence[str],
        tokens: LabelTokens | None,
        tops: Mapping[str, float] | None,
    ) -> LabelReading:
        """P(label) from the next token's likeliest tokens; a label not among them is scored as a continuation.

        Where the server does not echo, that cannot be, and its probability is bounded.
        """
        shown = tops if tops is not None else await self._likeliest(prompt)
        if not self.capabilities.echo:
            names = self._names(tokens.ids) if tokens else labels
            if any(PART in name for name in names):
                raise BackendError(
                    f"{self._client.url}: as tokens the labels {list(labels)} are parts of characters, which this "
                    "server cannot be asked about; choose others, or take one that returns a prompt's "
                    "log-probabilities (echo)"
                )
            return from_alternatives(shown, names)
        values = []
        for place, label in enumerate(labels):
            token: int | str = tokens.ids[place] if tokens else label
            if tokens and self._tokenizer:
                value = self._tokenizer.shown(tokens.ids[place], shown)
            else:
                value = shown.get(label)
            if value is None:
                mean, number, _ = await self._echo(prompt.followed_by(token), 1)
                value = mean * number
            values.append(value)
        return LabelReading(softmax(values), 0.0, len(labels))

    async def _likeliest(self, prompt: EchoedPrompt) -> Mapping[str, float]:
        """The likeliest tokens after a prompt, none where the server shows none."""
        if not self.capabilities.alternatives:
            return {}
        body = self._common(1) | {"prompt": prompt.whole, "logprobs": self.capabilities.alternatives}
        return await self._client.ask(
            "completions", self._allowed(body), lambda answer: self._counted(answer, alternatives_of_next_token)
        )

    async def _likeliest_of_chat(self, request: ScoreRequest, labels: Sequence[str]) -> Mapping[str, float]:
        known = self.capabilities
        body = self._common(_LABEL_TOKENS) | {"logprobs": True, "top_logprobs": known.alternatives}
        return await self._client.ask(
            "chat",
            self._allowed(body | self._messages(request.dialogue, _text(request))),
            lambda answer: self._counted(answer, partial(alternatives_of_first_word, words=labels)),
        )

    async def _sampled(self, request: ScoreRequest, labels: Sequence[str]) -> LabelReading:
        """Labels by ``llm.samples`` answers, several from one request where the server takes that."""
        known, wanted = self.capabilities, self._config.samples
        longest = max(len(label.strip()) for label in labels)  # in characters; few tokens are shorter than one
        body = self._common(max(_LABEL_TOKENS, longest + 2)) | {"temperature": 1.0, "top_p": 1.0}
        body |= self._messages(request.dialogue, _text(request)) if known.api == "chat" else {"prompt": _text(request)}
        seed = seed_of("samples", _text(request))
        answers: list[str] = []
        while len(answers) < wanted:
            missing = wanted - len(answers)
            if self._takes_many and missing > 1:
                try:
                    answers += (await self._samples(body | {"n": missing}, seed + len(answers)))[:missing]
                except Refused:
                    self._takes_many = False
            else:
                asked = [self._samples(body, seed + number) for number in range(len(answers), wanted)]
                answers += [answer[0] for answer in await asyncio.gather(*asked)]
        return from_samples(answers, labels)

    async def _samples(self, body: dict[str, Any], seed: int) -> list[str]:
        def read(answer: dict[str, Any]) -> list[str]:
            return [without_thinking(choice).text for choice in read_choices(answer, body.get("n", 1))]

        return await self._client.ask(
            self.capabilities.api,
            self._allowed(body | self._seed(seed)),
            lambda answer: self._counted(answer, read),
        )

    # -- what requests have in common

    def _names(self, ids: Sequence[int]) -> list[str]:
        """The texts of tokens."""
        return [self._tokenizer.tokenizer.decode([token]) for token in ids] if self._tokenizer else []

    def _common(self, tokens: int) -> dict[str, Any]:
        return request_base(self._config, tokens, thinking=self.capabilities.thinks)

    def _seed(self, seed: int) -> dict[str, int]:
        return {"seed": seed % 2**31} if self._config.send_seed and self.capabilities.seed else {}

    def _allowed(self, body: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in body.items() if name not in self._config.omit}

    def _messages(self, dialogue: Dialogue | None, text: str, form: JsonForm | None = None) -> dict[str, Any]:
        messages = chat_messages(dialogue or Dialogue("", (), text), system=self.capabilities.system, form=form)
        return {"messages": messages}

    def _counted(self, answer: dict[str, Any], read: Any) -> Any:
        """Read an answer, and count its tokens if it is of use."""
        value = read(answer)
        self._count(answer)
        return value

    def _count(self, answer: dict[str, Any]) -> int:
        """Count an answer that is of use; returns the tokens that it wrote."""
        usage = answer.get("usage") or {}
        written = usage.get("completion_tokens") or 0
        self.usage.requests += 1
        self.usage.prompt_tokens += usage.get("prompt_tokens") or 0
        self.usage.generated_tokens += written
        self.usage.thinking_tokens += (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
        return written


def _text(request: ScoreRequest) -> str:
    return request.prefix + request.context + request.continuation + request.tail
