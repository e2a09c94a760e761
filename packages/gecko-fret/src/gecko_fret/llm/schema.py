"""Answers as JSON by a schema, for servers that take one: what is sent, and how an answer is read."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from gecko_fret.llm.protocol import JsonForm


def response_format(model: type[BaseModel]) -> dict[str, Any]:
    """What a request says of the answer's form (OpenAI's ``response_format``), strictly.

    Args:
        model: what an answer holds; with ``extra="forbid"`` and no defaults, as strict schemas want it.
    """
    schema = _without_titles(model.model_json_schema())
    schema.pop("description", None)  # is for those who read the code
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def read_form(text: str, form: JsonForm) -> str | None:
    """An answer in the prompt's own form.

    Args:
        text: what came.
        form: what was asked for.

    Returns:
        The answer as text; None for JSON of another form, or that is not whole, or is none.
    """
    try:
        answer = form.model.model_validate_json(text, strict=True)
    except ValidationError:
        return None
    return form.as_text(answer)


def _without_titles(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without the names that pydantic makes up."""
    kept = {name: value for name, value in schema.items() if name != "title" or isinstance(value, dict)}
    return {name: _without_titles(value) if isinstance(value, dict) else value for name, value in kept.items()}
