"""What a server can do, found out by a few tiny requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict

from gecko_core.errors import BackendError
from gecko_fret.llm.answers import Unusable
from gecko_fret.llm.capabilities import Capabilities
from gecko_fret.llm.choices import Choice, has_logprobs, read_choice, without_thinking
from gecko_fret.llm.client import ApiClient, Refused
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.echo import plain_token
from gecko_fret.llm.protocol import JsonForm
from gecko_fret.llm.schema import read_form, response_format

_ALTERNATIVES = (20, 5)  # asked for in turn: what most servers allow at most, and the least limit known
_RETRIES = 2  # a server that cannot be had at the start of a build is better mended than waited for
# Any language model expects the words that come round again, and the odd one among them least of all.
_ROUND, _ODD = "red blue green ", "house "
_PROMPT = (
    f"{_ROUND * 4}{_ODD}{_ROUND}\n\n"
    "Question: Is two more than one?\nAnswer: Yes\n\nQuestion: Is five more than four?\nAnswer:"
)
_SHIFTED = 3.0  # so much likelier is the odd word than a word beside it only where values stand beside their tokens
_MESSAGES = [
    {"role": "system", "content": "Answer with yes or no."},
    {"role": "user", "content": "Is five more than four?"},
]


class _Yes(BaseModel):
    model_config = ConfigDict(extra="forbid")

    yes: bool


async def probe(client: ApiClient, config: LLMConfig) -> Capabilities:
    """Ask a server what it can do: three requests, and more where it refuses or leaves out some of it.

    With ``llm.api: auto`` the completions API is taken where there is one.

    Raises:
        BackendError: it cannot be reached, or does not write.
    """
    if config.api != "chat":
        try:
            return await _with_options(client, config, await _completions(client, config))
        except Refused:
            if config.api == "completions":
                raise
    return await _with_options(client, config, await _chat(client, config))


async def _completions(client: ApiClient, config: LLMConfig) -> Capabilities:
    """The first form of a request that the completions API takes."""
    base = request_base(config, 1, thinking=False) | {"prompt": _PROMPT}
    forms = [{"echo": True, "logprobs": n} for n in _ALTERNATIVES]
    alone = [*({"logprobs": n} for n in _ALTERNATIVES), {}]
    choice, form = await _first(client, "completions", base, [*forms, *alone], config)
    can_echo = _echoes(choice)
    if can_echo and _is_shifted(choice):
        raise BackendError(
            f"{client.url}: the log-probabilities of a prompt stand one place beside their tokens; take a server that "
            "gives each token its own (or llm.api: chat)"
        )
    if not can_echo and not choice.logprobs and choice.text.startswith(_PROMPT[:9]):
        # It echoes, but without log-probabilities: ask for those of the answer alone.
        choice, form = await _first(client, "completions", base, alone, config)
    if not choice.text and not choice.tokens:
        raise BackendError(f"{client.url}: the server answers, but writes nothing; see llm.model")
    return Capabilities(
        "completions",
        echo=can_echo,
        alternatives=_alternatives(choice, form.get("logprobs", 0)),
        logprobs=any(value is not None for value in choice.logprobs),
    )


async def _chat(client: ApiClient, config: LLMConfig) -> Capabilities:
    """The first form of a request that the chat API takes."""
    base = request_base(config, 8, thinking=True) | {"messages": _MESSAGES}
    forms: list[dict[str, Any]] = [*({"logprobs": True, "top_logprobs": n} for n in _ALTERNATIVES), {}]
    single = {"messages": [{"role": "user", "content": "\n\n".join(message["content"] for message in _MESSAGES)}]}
    choice, form = await _first(client, "chat", base, [*forms, *(form | single for form in forms)], config)
    answer = without_thinking(choice)
    if not choice.text and not choice.thought:
        raise BackendError(
            f"{client.url}: the server answers, but writes nothing; see llm.model and llm.thinking_tokens"
        )
    return Capabilities(
        "chat",
        alternatives=_alternatives(choice, form.get("top_logprobs", 0)),
        logprobs=any(value is not None for value in choice.logprobs),
        system="messages" not in form,
        thinks=answer.thought,
    )


def _echoes(choice: Choice) -> bool:
    """Whether the prompt's tokens are there with their log-probabilities; of an answer one token was asked for."""
    values = choice.logprobs[1:]
    return len(values) > 1 and None not in values and any(values)  # some give 0 for what they do not know


def _is_shifted(choice: Choice) -> bool:
    """Whether the surprise of the odd word stands at a token beside it; where no tokens are shown nobody can tell."""
    words = [plain_token(token) for token in choice.tokens]
    if _ODD.strip() not in words:
        return False
    place = words.index(_ODD.strip())
    beside = [value for value in choice.logprobs[max(place - 1, 0) : place + 2 : 2] if value is not None]
    own = choice.logprobs[place] if place < len(choice.logprobs) else None
    return own is not None and bool(beside) and own - min(beside) > _SHIFTED


def _lacks(choice: Choice, form: Mapping[str, Any]) -> bool:
    """Whether log-probabilities were asked for and are not there."""
    if form.get("echo"):
        return not _echoes(choice)
    return bool(form.get("logprobs")) and all(value is None for value in choice.logprobs)


def _alternatives(choice: Choice, asked: int) -> int:
    """Of how many tokens log-probabilities may be asked for; servers may show the token that was written besides."""
    return min(asked, max((len(top) for top in choice.tops), default=0))


async def _with_options(client: ApiClient, config: LLMConfig, found: Capabilities) -> Capabilities:
    """Seed and stop strings in one request, one by one where that is refused; then the schema."""
    base = request_base(config, 12, thinking=found.thinks)
    if found.api == "completions":
        base |= {"prompt": "Count: one two three four five six seven eight"}
        mark = " "
    else:
        base |= {"messages": [{"role": "user", "content": "Count from one to six in words, with commas."}]}
        mark = ","
    options: dict[str, Any] = {"seed": 1} if config.send_seed else {}
    options |= {"stop": [mark]}
    options = {name: value for name, value in options.items() if name not in config.omit}
    takes: dict[str, Choice | None] = dict.fromkeys(options)
    try:
        takes = dict.fromkeys(options, await _ask(client, found.api, base | options))
    except Refused:
        for name, value in options.items():
            takes[name] = await _ask_or_none(client, found.api, base | {name: value})
    stopped = takes.get("stop")
    return replace(
        found,
        seed=takes.get("seed") is not None,
        stop=stopped is not None and mark not in without_thinking(stopped).text.strip(),
        schema=await _takes_schema(client, config, found),
    )


async def _takes_schema(client: ApiClient, config: LLMConfig, found: Capabilities) -> bool:
    if found.api != "chat" or config.response_schema == "never" or "response_format" in config.omit:
        return False
    # The question does not speak of JSON, or a server that ignores the schema might answer by it all the same.
    messages = [{"role": "user", "content": "Is five more than four?"}]
    body = request_base(config, 24, thinking=found.thinks) | found.logprobs_of_answers
    body |= {"messages": messages, "response_format": response_format(_Yes)}
    form = JsonForm(_Yes, (), str)
    for _ in range(2):  # a whole build goes by what is found here
        choice = await _ask_or_none(client, "chat", body)
        if choice is None:
            return False
        # Without log-probabilities nothing says which of several queries is the likeliest: then better text.
        told = not found.logprobs or has_logprobs(choice)
        if told and read_form(without_thinking(choice).text, form) is not None:
            return True
    return False


def request_base(config: LLMConfig, tokens: int, *, thinking: bool) -> dict[str, Any]:
    """What every request has: the most tokens, temperature 0, and what the configuration adds or leaves out.

    Args:
        config: the configuration section.
        tokens: most tokens of the answer.
        thinking: whether ``llm.thinking_tokens`` come on top of them.
    """
    most = tokens + (config.thinking_tokens if thinking else 0)
    body = {config.max_tokens_key: most, "temperature": 0} | config.extra_body
    return {name: value for name, value in body.items() if name not in config.omit}


async def _first(
    client: ApiClient, api: str, base: dict[str, Any], forms: list[dict[str, Any]], config: LLMConfig
) -> tuple[Choice, dict[str, Any]]:
    """The answer to the first form of a request that is not refused, and the form; else the last refusal is raised.

    What an answer lacks is asked for once more: a whole build goes by what is found here.
    """
    sent = [{name: value for name, value in form.items() if name not in config.omit} for form in forms]
    sent = [form for number, form in enumerate(sent) if form not in sent[:number]]
    for form in sent:
        try:
            choice = await _ask(client, api, base | form)
            return (await _ask(client, api, base | form) if _lacks(choice, form) else choice), form
        except Refused as refusal:
            if refusal.status in (401, 403, 404, 405) or refusal.status < 400 or form is sent[-1]:
                raise
    raise AssertionError("no form of the request")


async def _ask_or_none(client: ApiClient, api: str, body: dict[str, Any]) -> Choice | None:
    try:
        return await _ask(client, api, body)
    except Refused:
        return None


async def _ask(client: ApiClient, api: str, body: dict[str, Any]) -> Choice:
    return await client.ask(api, body, _read, most_retries=_RETRIES)


def _read(answer: Mapping[str, Any]) -> Choice:
    choice = read_choice(answer)
    if choice.tokens and len(choice.tokens) != len(choice.logprobs):
        raise Unusable("log-probabilities that do not fit the tokens")
    return choice
