"""The official ``openai`` client behind a plain function call: many requests at once, answers in order.

Retries, Retry-After, connections, proxies and Azure are the client's business. Ours are what it does not know: pace and
budget, answers that are whole but of no use, and that the key goes to one host and into no message.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from email.utils import parsedate_to_datetime
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from gecko_core.errors import BackendError, ConfigError, ModelError, first_line
from gecko_fret.llm.answers import Unusable, parsed, read_whole, usage_of
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.lanes import waiting
from gecko_fret.llm.pace import Budget, Limits, Pace, Pauses, Spent
from gecko_fret.llm.places import Places, Turn

Value = TypeVar("Value")
_log = logging.getLogger(__name__)

_BUSY = {408, 409, 425, 429}
_LONGEST_WAIT = 120.0  # seconds; where a server asks for more, the openai client gives up at once
_SILENCE = 30.0  # seconds without any answer, after which that is said
_CLOSING = 2.0  # seconds for connections to end, which the end of the process ends anyway
_NAME, _MOST_MODELS = 200, 10  # characters of a model's name in an answer; how many names are kept
_CHARACTERS_PER_TOKEN = 4  # of English text, on average
_TOKENS_PER_MESSAGE = 16  # the marks that a chat template puts around a message: more than any known one


class Refused(BackendError):
    """The server will not serve the request, or fails at it every time (HTTP 500); asking again would not help.

    Args:
        message: the line for the user.
        status: the HTTP status.
    """

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class ApiClient:
    """One server and one model.

    Args:
        config: the configuration section.
        spent: what earlier runs of the build have spent.

    Attributes:
        budget: what has been spent.
        models: names of models that its answers gave, those of earlier runs among them.

    Raises:
        ModelError: the ``openai`` package is not installed.
        ConfigError: the file with the key cannot be read.
    """

    def __init__(self, config: LLMConfig, spent: Spent | None = None):
        try:
            import openai
        except ImportError:
            raise ModelError("llm.backend openai: its client is missing; pip install 'gecko-fret[openai]'") from None
        self.url = str(config.url).rstrip("/")
        self._config, self._openai = config, openai
        self._key = read_key(config)
        self._pace = Pace(config.requests_per_minute, config.tokens_per_minute)
        self._pauses = Pauses(config.retry_pause_s)
        self.budget = Budget(
            Limits(
                config.budget_tokens, config.budget_usd, config.usd_per_million_read, config.usd_per_million_written
            ),
            spent,
        )
        self._places, self._numbers = Places(config.concurrency), itertools.count()
        # So many are prepared or in flight; one at a time keeps their order, for the server's prefix cache.
        self._turns = asyncio.Semaphore(2 * config.concurrency - 1)
        self._client: Any = None
        self._running: list[Future[Any]] = []
        self._interrupted = False
        self._heard = self._said = 0.0  # time of the last answer; silence that was told of, in seconds
        self.models: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gecko-fret-http", daemon=True)
        self._thread.start()

    def run(self, jobs: Sequence[Coroutine[Any, Any, Value]]) -> list[Value]:
        """Run the jobs side by side; ``llm.concurrency`` limits the requests in flight.

        Returns:
            Their results in order.

        Raises:
            BackendError: one of them failed; the others are cancelled.
        """
        running = asyncio.run_coroutine_threadsafe(_all(jobs), self._loop)
        self._running.append(running)
        try:
            if self._interrupted:
                running.cancel()
            with waiting():
                return self._result(running)
        except BaseException:  # Ctrl-C: nobody waits for the answers any more
            running.cancel()
            raise
        finally:
            self._running.remove(running)

    def _result(self, running: Future[Value]) -> Value:
        """The result, with a line now and then while the server says nothing: each after twice as long."""
        self._heard, self._said = time.monotonic(), 0.0
        while True:
            try:
                return running.result(_SILENCE)
            except FutureTimeout:
                if running.done():  # by now, or with an error of this kind
                    return running.result()
            silent = time.monotonic() - self._heard
            if silent >= max(_SILENCE, 2 * self._said):
                self._said = silent
                limits = f"llm.timeout_s {self._config.timeout_s:g}, llm.retries {self._config.retries}"
                _log.warning("%s: no answer for %.0f s; it is asked on (%s)", self.url, silent, limits)

    def interrupt(self) -> None:
        """End all calls of ``run`` with an error, those to come as well."""
        self._interrupted = True
        for running in list(self._running):
            running.cancel()

    async def ask(
        self,
        api: str,
        body: dict[str, Any],
        read: Callable[[dict[str, Any]], Value],
        *,
        most_retries: int | None = None,
    ) -> Value:
        """Send one request, again where its answer is of no use.

        Args:
            api: ``completions`` or ``chat``.
            body: the request without the model.
            read: from the answer to what is wanted of it; raises ``Unusable`` for an answer that lacks it.
            most_retries: at most so many attempts after the first, if the configuration has more.

        Returns:
            What ``read`` returned.

        Raises:
            Refused: the server will not serve it.
            BudgetError: it does not fit into the budget.
            BackendError: all attempts are used up.
        """
        retries = self._config.retries
        attempts = 1 + (retries if most_retries is None else min(retries, most_retries))
        number = next(self._numbers)
        most, likely, problem = *prompt_tokens(body), ""
        written = int(body.get(self._config.max_tokens_key) or 0) * int(body.get("n") or 1)
        for attempt in range(attempts):
            if attempt:
                await asyncio.sleep(self._pauses.before(attempt))
            spent = Spent()
            await self.budget.reserve(most, written)
            try:
                await self._pace.wait(likely + written)
                spent = Spent(likely, written)  # if it is cut off
                try:
                    content = await self._send(api, body, attempts - 1 - attempt, number)
                except BackendError:
                    spent = Spent()
                    raise
                self._heard, self._said = time.monotonic(), 0.0
                answer = parsed(content)
                self._note_model(answer.get("model"))
                spent = usage_of(answer, likely, written)
                self._pace.correct(likely + written, spent.prompt_tokens + spent.generated_tokens)
                return read(answer)
            except Unusable as error:
                problem = str(error)
            finally:
                await self.budget.settle(most, written, spent)
        raise self._failed(attempts, problem)

    def _note_model(self, name: Any) -> None:
        """Keep the name of the model that an answer is from, and say it where that changes."""
        if not isinstance(name, str) or not name or name in self.models:
            return
        if self.models:
            _log.warning(
                "%s: answers are from the model %s now and were from %s; if that is another one, begin the build anew",
                self.url, self.hide(name)[:_NAME], ", ".join(self.models),
            )  # fmt: skip
        if len(self.models) < _MOST_MODELS:
            self.models.append(self.hide(name)[:_NAME])

    def close(self) -> None:
        """End what still runs, close the connections and end the thread."""
        if self._loop.is_closed():
            return
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_CLOSING)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSING)
        if not self._thread.is_alive():
            self._loop.close()

    async def _end(self) -> None:
        """No task is left half way: it would go on, on a closed loop, wherever memory happens to be collected."""
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    def hide(self, text: str) -> str:
        """Text on one line, without the key and without characters that a terminal obeys."""
        for key in {self._key, quote(self._key, safe="")} - {""}:
            text = text.replace(key, "***")
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())

    # -- one request

    async def _send(self, api: str, body: dict[str, Any], retries: int, number: int) -> bytes:
        """The bytes of an answer; the client has done its retries when this raises."""
        await self._turns.acquire()
        turn = Turn(self._turns, number)
        Turn.now.set(turn)
        try:
            return await self._sent(api, body, retries)
        finally:
            turn.pass_on()

    async def _sent(self, api: str, body: dict[str, Any], retries: int) -> bytes:
        openai = self._openai
        if self._client is None:
            self._client = _make_client(openai, self._config, self._key, self._places, self._pauses)
        client = self._client if retries == self._config.retries else self._client.with_options(max_retries=retries)
        try:
            if api == "chat":
                messages = body["messages"]
                rest = {name: value for name, value in body.items() if name != "messages"}
                create = client.chat.completions.with_raw_response.create
                raw = await create(model=self._config.model, messages=messages, extra_body=rest)
            else:
                rest = {name: value for name, value in body.items() if name != "prompt"}
                create = client.completions.with_raw_response.create
                raw = await create(model=self._config.model, prompt=body["prompt"], extra_body=rest)
            return bytes(raw.content)
        except openai.APIStatusError as error:
            problem = self._status_error(error, retries + 1)
        except openai.APITimeoutError:
            problem = self._failed(retries + 1, f"no answer within {self._config.timeout_s:g} s")
        except openai.OpenAIError as error:
            cause = error.__cause__ or error  # APIConnectionError says nothing; what caused it does
            problem = self._failed(retries + 1, f"{type(cause).__name__}: {first_line(cause)}")
        # Raised here, apart from what caused it: a traceback of that might show headers and answers.
        raise problem

    def _status_error(self, error: Any, attempts: int) -> BackendError:
        status, url = int(error.status_code), self.url
        if 300 <= status < 400:
            where = self.hide(_without_query(error.response.headers.get("location", "")))
            place = f"to {where}" if where else f"(HTTP {status}) and names no place"
            return Refused(f"{url}: the server redirects {place}; set llm.url to where it really is", status)
        if _may_pass(status):
            seconds = _asked_to_wait(error.response.headers)
            if seconds > _LONGEST_WAIT:
                return self._told_to_wait(f"HTTP {status}", seconds, status)
            wait = error.response.headers.get("retry-after")
            later = f", to be asked again after {self.hide(wait)}" if wait else ""
            return self._failed(attempts, f"HTTP {status}{later}", status)
        reason = f"HTTP {status}: {self.hide(error.response.text)[:200]}"
        if status in (401, 403):
            key = self._config.api_key_file or self._config.api_key_env
            return Refused(f"{url}: the server does not accept the key of {key} ({reason})", status)
        return Refused(f"{url}: the server refused the request ({reason}); see llm.model and llm.url", status)

    def _told_to_wait(self, problem: str, seconds: float, status: int) -> BackendError:
        return _failure(
            f"{self.url}: {problem}, and the server asks to wait {seconds:.0f} s, longer than the {_LONGEST_WAIT:.0f} "
            "s that are waited at most; finished parts are kept, run the same command again after that time",
            status,
        )

    def _failed(self, attempts: int, problem: str, status: int = 0) -> BackendError:
        return _failure(
            f"{self.url}: no answer in {attempts} attempts (last: {self.hide(problem)}); finished parts are kept, run "
            "the same command again when the server is back",
            status,
        )


def _may_pass(status: int) -> bool:
    """Whether a request that was answered so is asked again."""
    return status >= 500 or status in _BUSY


def read_key(config: LLMConfig) -> str:
    """The key, from the file or the environment variable that the configuration names; empty where there is none.

    Raises:
        ConfigError: the file cannot be read, or holds no key.
    """
    if not config.api_key_file:
        return _checked_key(os.environ.get(config.api_key_env, "").strip(), config.api_key_env)
    try:
        lines = Path(config.api_key_file).expanduser().read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"llm.api_key_file: {config.api_key_file} cannot be read; name a text file") from None
    if len(lines) != 1:
        raise ConfigError(f"llm.api_key_file: {config.api_key_file} must hold the key alone, on one line")
    return _checked_key(lines[0], config.api_key_file)


def _checked_key(key: str, where: str) -> str:
    """The key, if a header can carry it."""
    if not all("!" <= character <= "~" for character in key):
        raise ConfigError(f"{where}: the key has spaces or characters that are not ASCII; copy it again")
    return key


def _failure(message: str, status: int) -> BackendError:
    return Refused(message, status) if status in (500, 501) else BackendError(message)


def _asked_to_wait(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait, by the headers that the openai client reads; 0 where it says none."""
    for name, divisor in (("retry-after-ms", 1000), ("retry-after", 1)):
        with suppress(KeyError, ValueError):
            seconds = float(headers[name]) / divisor
            return seconds if math.isfinite(seconds) else 0.0
    with suppress(KeyError, ValueError, TypeError, OverflowError):
        return parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time()
    return 0.0


def _without_query(url: str) -> str:
    """Scheme, host and path of a URL, or of half a one: what else it has may be a secret."""
    try:
        target = urlsplit(url)
        host = target.netloc.rpartition("@")[2]
    except ValueError:
        return "a place that is no URL"
    return f"{target.scheme}://{host}{target.path}" if host else target.path


def prompt_tokens(body: dict[str, Any]) -> tuple[int, int]:
    """The most tokens that the prompt of a request can have, and how many it is likely to have.

    A token is a byte at least; of ids the number is known.
    """
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        return len(prompt) + _TOKENS_PER_MESSAGE, len(prompt)
    texts = [prompt] if isinstance(prompt, str) else [message["content"] for message in body["messages"]]
    most = sum(len(text.encode()) + _TOKENS_PER_MESSAGE for text in texts)
    return most, sum(map(len, texts)) // _CHARACTERS_PER_TOKEN + 1


async def _all(jobs: Sequence[Coroutine[Any, Any, Value]]) -> list[Value]:
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _make_client(openai: Any, config: LLMConfig, key: str, places: Places, pauses: Pauses) -> Any:
    """The client; no redirect is followed, because it would take prompts, and on Azure the key, to another host."""

    class WholeAnswer(openai.DefaultAsyncHttpxClient):
        """Limits time and size of a whole answer: the client's own time starts again with every byte.

        Here is where the requests in flight are limited: one that waits to be asked again takes nobody's place.
        """

        async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
            if not key:
                request.headers.pop("Authorization", None)
            turn = Turn.now.get()
            async with places.of(turn.number if turn else 0):
                if turn:
                    turn.pass_on()
                began = time.monotonic()
                try:
                    async with asyncio.timeout(config.timeout_s):
                        response = await read_whole(await super().send(request, stream=True, **options))
                except TimeoutError:
                    raise late("the answer is not whole", request=request) from None
            # One rule for what is asked again and what is told of it: the client's own knows no 425.
            response.headers["x-should-retry"] = "true" if _may_pass(response.status_code) else "false"
            if response.status_code < 300:
                pauses.note(time.monotonic() - began)
            elif not {"retry-after", "retry-after-ms"} & {*response.headers}:  # what the server says comes first
                attempt = int(request.headers.get("x-stainless-retry-count", 0)) + 1
                response.headers["retry-after-ms"] = str(max(1, round(1000 * pauses.before(attempt))))
            return response

    # The client is built on httpx or its successor, by version; its own exception is what the retries know.
    late = import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.split(".")[0]).ReadTimeout
    options: dict[str, Any] = {
        "api_key": key or "none",
        "timeout": config.timeout_s,
        "max_retries": config.retries,
        "http_client": WholeAnswer(follow_redirects=False, timeout=config.timeout_s),
    }
    if config.api_version:
        return openai.AsyncAzureOpenAI(azure_endpoint=str(config.url), api_version=config.api_version, **options)
    return openai.AsyncOpenAI(base_url=str(config.url), **options)
