"""The openai backend: any server with OpenAI's completions API that returns prompt log-probabilities (`echo`)."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gecko_core.errors import BackendError
from gecko_fret.llm.chat import render_chat
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.loading import load_tokenizer
from gecko_fret.llm.protocol import Completion, Dialogue, Sampling, Scored, ScoreRequest, Usage, WriteRequest
from gecko_fret.llm.segments import SegmentTokenizer, by_context, in_order, softmax

_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}
_LONGEST_PAUSE = 30.0
_CHARACTERS_PER_TOKEN = 4  # where no tokenizer is named: what English text averages
Prompt = str | list[int]


class OpenAILLM:
    """Completions over HTTP: several requests in flight, errors retried with growing pauses.

    With a tokenizer, prompts are sent as token ids and scores are those of the other backends; without one, as text,
    and the continuation is found by its character offsets. A row is never skipped: when a request finally fails, the
    whole call raises ``BackendError``, and the parts on disk stay.

    Args:
        config: the configuration section.
        tokenizer: the tokenizer of the served model.
    """

    def __init__(self, config: LLMConfig, tokenizer: SegmentTokenizer | None = None):
        import requests

        self.name, self.usage = config.model, Usage()
        self.fingerprint = self.fingerprint_of(config)
        self._config, self._tokenizer, self._requests = config, tokenizer, requests
        self._url = f"{str(config.url).rstrip('/')}/completions"
        self._key = os.environ.get(config.api_key_env, "")
        self._pool = ThreadPoolExecutor(config.concurrency, thread_name_prefix="gecko-fret-http")
        self._local, self._lock = threading.local(), threading.Lock()
        self._top_logprobs = 20

    @classmethod
    def load(cls, config: LLMConfig) -> OpenAILLM:
        """Make the backend, with the tokenizer that the configuration names; see ``Backend``.

        Raises:
            ModelError: there is no such tokenizer.
        """
        if not config.tokenizer:
            return cls(config)
        return cls(config, SegmentTokenizer(load_tokenizer(config.tokenizer), config.model))

    @classmethod
    def fingerprint_of(cls, config: LLMConfig) -> str:
        """The served name; what a server runs is not known here. See ``Backend``."""
        return f"openai:{config.model}"

    def close(self) -> None:
        """Cancel the requests that have not been sent."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def truncate(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        """See ``LLM``."""
        if self._tokenizer is not None:
            return self._tokenizer.truncate(texts, max_tokens)
        most = max_tokens * _CHARACTERS_PER_TOKEN
        return [text if len(text) <= most else text[:most].rsplit(" ", 1)[0] for text in texts]

    def chat(self, dialogue: Dialogue) -> tuple[str, str] | None:
        """See ``ChatLLM``."""
        return render_chat(self._tokenizer.tokenizer, dialogue) if self._tokenizer else None

    def generate(self, requests: Sequence[WriteRequest], sampling: Sampling) -> list[Completion]:
        """See ``LLM``."""
        prompts: Sequence[Prompt] = (
            self._tokenizer.write(requests) if self._tokenizer else [r.prefix + r.body for r in requests]
        )
        common: dict[str, Any] = {
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        common |= {"stop": list(sampling.stop), "logprobs": 1}
        bodies = [
            common | {"prompt": prompt} | ({"seed": request.seed % 2**31} if self._config.send_seed else {})
            for prompt, request in zip(prompts, requests, strict=True)
        ]
        return [_completion(answer) for answer in self._pool.map(self._post, bodies)]

    def score(
        self, requests: Sequence[ScoreRequest], labels: Sequence[str] = (), *, blocks: bool = False
    ) -> list[Scored]:
        """See ``LLM``; in blocks, requests of one prefix and context are sent one after the other."""
        order = by_context(requests) if blocks else range(len(requests))
        scored = self._pool.map(lambda number: self._score(requests[number], labels), order)
        return in_order(order, list(scored))

    # -- one request

    def _score(self, request: ScoreRequest, labels: Sequence[str]) -> Scored:
        logprob, tokens = math.nan, 0
        if request.continuation:
            total, tokens = self._span(request)
            logprob = total / tokens
        return Scored(logprob, tokens, self._labels(request, labels) if labels else ())

    def _span(self, request: ScoreRequest) -> tuple[float, int]:
        """Sum of the continuation's log-probabilities, and its number of tokens."""
        before = request.prefix + request.context
        if self._tokenizer is not None:
            row = self._tokenizer.score([request])[0]
            return self._echoed_ids(row.ids[: row.end], row.start)
        return self._echoed_text(before, request.continuation)

    def _echoed_ids(self, ids: list[int], start: int) -> tuple[float, int]:
        values = self._echo(ids)["token_logprobs"][start : len(ids)]
        if len(values) != len(ids) - start or None in values:
            raise BackendError(f"{self._url}: the server echoed {len(values)} of {len(ids) - start} log-probabilities")
        return sum(values), len(values)

    def _echoed_text(self, before: str, continuation: str) -> tuple[float, int]:
        logprobs = self._echo(before + continuation)
        # Servers may count a begin mark into the offsets: the first token that is scored shows where the text begins.
        offsets, values = logprobs["text_offset"], logprobs["token_logprobs"]
        shift = offsets[-1] + len(logprobs["tokens"][-1]) - len(logprobs["echoed"])
        start, end = len(before) + shift, len(before) + len(continuation) + shift
        inside = [v for v, at in zip(values, offsets, strict=True) if start <= at < end and v is not None]
        if not inside:
            raise BackendError(f"{self._url}: no log-probability for the query; name the tokenizer (llm.tokenizer)")
        return sum(inside), len(inside)

    def _echo(self, prompt: Prompt) -> dict[str, Any]:
        """Log-probabilities of the prompt's own tokens."""
        answer = self._post({"prompt": prompt, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1})
        choice = answer["choices"][0]
        logprobs = choice.get("logprobs") or {}
        values = logprobs.get("token_logprobs")
        if not values or len(values) < 2:
            raise BackendError(f"{self._url}: the server returns no prompt log-probabilities (echo), needed to score")
        return logprobs | {"echoed": choice.get("text", "")}

    def _labels(self, request: ScoreRequest, labels: Sequence[str]) -> tuple[float, ...]:
        """P(label) from the next token's likeliest tokens; a label not among them is scored as a continuation."""
        before = request.prefix + request.context + request.continuation + request.tail
        if self._tokenizer is not None:
            tokens = self._tokenizer.labels(labels)
            ids = self._tokenizer.score([request], tokens.lead)[0].ids
            names = [self._tokenizer.tokenizer.decode([token]) for token in tokens.ids]
            likeliest = self._likeliest(ids)
            values = [
                likeliest[name] if name in likeliest else self._echoed_ids([*ids, token], len(ids))[0]
                for name, token in zip(names, tokens.ids, strict=True)
            ]
        else:
            likeliest = self._likeliest(before)
            values = [
                likeliest[label] if label in likeliest else self._echoed_text(before, label)[0] for label in labels
            ]
        return softmax(values)

    def _likeliest(self, prompt: Prompt) -> dict[str, float]:
        body = {"prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": self._top_logprobs}
        answer = self._post(body)
        tops = (answer["choices"][0].get("logprobs") or {}).get("top_logprobs") or [{}]
        return tops[0] or {}

    # -- HTTP

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Post until an answer is complete; ``BackendError`` for a refusal, or when all attempts are used up."""
        problem = ""
        for attempt in range(self._config.retries + 1):
            if attempt:
                time.sleep(min(self._config.retry_pause_s * 2 ** (attempt - 1), _LONGEST_PAUSE))
            try:
                response = self._session().post(
                    self._url, json={"model": self._config.model, **body}, timeout=self._config.timeout_s
                )
            except self._requests.RequestException as error:  # refused, timed out, cut off
                problem = type(error).__name__
                continue
            if response.status_code in _RETRIED:
                problem = f"HTTP {response.status_code}"
                continue
            if response.status_code >= 400:
                reason = f"HTTP {response.status_code}: {' '.join(response.text.split())[:200]}"
                raise BackendError(f"{self._url}: the server refused the request ({reason}); see llm.model and llm.url")
            try:
                answer = response.json()
            except ValueError:
                problem = "an answer that is not whole JSON"
                continue
            if isinstance(answer, dict) and answer.get("choices"):
                self._count(answer)
                return answer
            problem = "an answer without choices"
        raise BackendError(
            f"{self._url}: no answer in {self._config.retries + 1} attempts (last: {problem}); "
            "finished parts are kept, run the same command again when the server is back"
        )

    def _session(self) -> Any:
        """One connection per thread, the key in its header and nowhere else."""
        if not hasattr(self._local, "session"):
            self._local.session = self._requests.Session()
            if self._key:
                self._local.session.headers["Authorization"] = f"Bearer {self._key}"
        return self._local.session

    def _count(self, answer: dict[str, Any]) -> None:
        usage = answer.get("usage") or {}
        with self._lock:
            self.usage.requests += 1
            self.usage.prompt_tokens += usage.get("prompt_tokens") or 0
            self.usage.generated_tokens += usage.get("completion_tokens") or 0


def _completion(answer: dict[str, Any]) -> Completion:
    choice = answer["choices"][0]
    values = [v for v in (choice.get("logprobs") or {}).get("token_logprobs") or [] if v is not None]
    tokens = len(values) or (answer.get("usage") or {}).get("completion_tokens") or 0
    mean = sum(values) / len(values) if values else 0.0
    return Completion(choice.get("text") or "", mean, tokens, choice.get("finish_reason") == "stop")
