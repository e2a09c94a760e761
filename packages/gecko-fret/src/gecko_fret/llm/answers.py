"""The answers of a server: whole, of bounded size, with choices."""

from __future__ import annotations

import json
from typing import Any

from gecko_fret.llm.pace import Spent

_MOST_BYTES = 32 * 2**20  # of an answer, decompressed; 8,192 tokens with 20 alternatives each have some 8 MB
_MOST_COUNTED = 2**31  # a count of tokens above this is none
_SHOWN = 200  # characters of a server's own words


class Unusable(Exception):
    """An answer without what was asked for; it is asked for again."""


async def read_whole(response: Any) -> Any:
    """The response with its content, which came as a stream.

    Args:
        response: of the HTTP client.

    Raises:
        Unusable: there is no end of it.
    """
    content = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > _MOST_BYTES:
                raise Unusable(f"the answer has more than {_MOST_BYTES // 2**20} MB")
    finally:
        await response.aclose()
    framing = (b"content-encoding", b"content-length", b"transfer-encoding")
    return type(response)(
        response.status_code,
        # As bytes: a header may have any, and one that the client decoded it may refuse to encode.
        headers=[(name, value) for name, value in response.headers.raw if name.lower() not in framing],
        content=bytes(content),
        request=response.request,
        extensions=response.extensions,
    )


def parsed(content: bytes) -> dict[str, Any]:
    """The JSON of an answer with choices.

    Args:
        content: its bytes.

    Raises:
        Unusable: it is none; what the server says of an error is in the message.
    """
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise Unusable("an answer that is not whole JSON") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("choices"), list) or not answer["choices"]:
        raise Unusable(f"an answer without choices{_error_in(answer)}")
    return answer | {"usage": _clean_usage(answer.get("usage"))}


def _error_in(answer: Any) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return f": {message[:_SHOWN]}" if isinstance(message, str) else ""


def _clean_usage(usage: Any) -> dict[str, Any]:
    """The counts of tokens that are counts; a server that miscounts must not end a build."""
    if not isinstance(usage, dict):
        return {}
    details = usage.get("completion_tokens_details")
    clean: dict[str, Any] = _counts(usage, "prompt_tokens", "completion_tokens")
    return clean | {
        "completion_tokens_details": _counts(details if isinstance(details, dict) else {}, "reasoning_tokens")
    }


def _counts(values: dict[str, Any], *names: str) -> dict[str, int]:
    return {name: values[name] for name in names if type(values.get(name)) is int and 0 <= values[name] < _MOST_COUNTED}


def usage_of(answer: dict[str, Any], prompt: int, generated: int) -> Spent:
    """What the server says it took; what was expected where it says nothing.

    Args:
        answer: see :func:`parsed`.
        prompt: tokens that were expected to be read.
        generated: tokens that were expected to be written.
    """
    usage = answer["usage"]
    return Spent(usage.get("prompt_tokens", prompt), usage.get("completion_tokens", generated))
