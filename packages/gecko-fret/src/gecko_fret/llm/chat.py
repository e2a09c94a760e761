"""Few-shot prompts in a model's chat template."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gecko_fret.llm.protocol import Dialogue, JsonForm

_MARK = "GECKO-FRET-ASKED"


def render_chat(tokenizer: Any, dialogue: Dialogue) -> tuple[str, str] | None:
    """A dialogue by the tokenizer's chat template: the instruction as system message, demonstrations as turns.

    Templates that refuse a system message (Gemma's) get the instruction in the first turn. Thinking is switched off
    where the template knows how. Special tokens in the texts are taken out: a passage must not end a turn.

    Args:
        tokenizer: of transformers.
        dialogue: the prompt.

    Returns:
        (prefix, body): what dialogues that differ in ``asked`` alone share, and the rest, which ends where the model
        answers. None where the tokenizer has no template.
    """
    if not getattr(tokenizer, "chat_template", None):
        return None
    instruction, asked = (_plain(tokenizer, text) for text in (dialogue.instruction, dialogue.asked))
    turns = [(_plain(tokenizer, question), _plain(tokenizer, answer)) for question, answer in dialogue.shown]
    text = _rendered(tokenizer, instruction, [*turns, (_MARK, "")])
    prefix, _, rest = text.rpartition(_MARK)
    # Where encoding adds the begin mark, the template's own would be a second one.
    begin = tokenizer.bos_token
    if begin and prefix.startswith(begin) and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id:
        prefix = prefix.removeprefix(begin)
    return prefix, asked + rest


def chat_messages(dialogue: Dialogue, *, system: bool = True, form: JsonForm | None = None) -> list[dict[str, str]]:
    """A dialogue as the messages of a chat API.

    Args:
        dialogue: the prompt.
        system: whether the instruction may be a system message; else it stands in the first turn.
        form: how demonstrations are answered; None: as the prompt file has it.
    """
    answers = [answer.model_dump_json() for answer in form.shown] if form else [answer for _, answer in dialogue.shown]
    asked = [*(question for question, _ in dialogue.shown), dialogue.asked]
    turns = [(question.strip(), answer.strip()) for question, answer in zip(asked, [*answers, ""], strict=True)]
    return _with_instruction(dialogue.instruction, turns, system=system)


#: What a template that tells the model the day is told: a build that goes on tomorrow has the same prompts.
_DAY = datetime(2025, 1, 1)


def _rendered(tokenizer: Any, instruction: str, turns: list[tuple[str, str]]) -> str:
    import jinja2

    options = {
        "tokenize": False, "add_generation_prompt": True, "enable_thinking": False, "strftime_now": _DAY.strftime,
    }  # fmt: skip
    try:
        return tokenizer.apply_chat_template(_with_instruction(instruction, turns, system=True), **options)
    except jinja2.exceptions.TemplateError:
        return tokenizer.apply_chat_template(_with_instruction(instruction, turns, system=False), **options)


def _with_instruction(instruction: str, turns: list[tuple[str, str]], *, system: bool) -> list[dict[str, str]]:
    if not instruction:
        return _messages(turns)
    if system:
        return [{"role": "system", "content": instruction}, *_messages(turns)]
    (first, answer), *others = turns
    return _messages([(f"{instruction}\n\n{first}", answer), *others])


def _messages(turns: list[tuple[str, str]]) -> list[dict[str, str]]:
    messages = []
    for question, answer in turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages[:-1]  # the last turn is the model's


def _plain(tokenizer: Any, text: str) -> str:
    for token in tokenizer.all_special_tokens:
        text = text.replace(token, " ")
    return text.strip()
