"""How an LLM is asked for a query: the prompt file's demonstrations or the user's own, as plain text or as a chat."""

from __future__ import annotations

from collections.abc import Sequence

from gecko_core.errors import ConfigError
from gecko_fret.config import GenerateConfig
from gecko_fret.llm.protocol import LLM, ChatLLM, Dialogue, ScoreRequest, WriteRequest
from gecko_fret.prompting import NO_PASSAGE, Demonstration, PromptSet, as_text


def task_is_given(prompts: PromptSet, config: GenerateConfig) -> bool:
    """Whether the LLM is told the task and writes the query alone; prompts of open tasks leave the task to it."""
    return config.write_task is False and prompts.generate.tasks == "closed"


class Asker:
    """Makes the requests to one LLM.

    Args:
        llm: the LLM.
        prompts: the prompts for writing.
        config: section ``generate``.
        examples: groups of the user's own queries, shown instead of the prompts' demonstrations.
    """

    def __init__(self, llm: LLM, prompts: PromptSet, config: GenerateConfig, examples: Sequence[list[Demonstration]]):
        self._llm, self._prompts, self._config = llm, prompts, config
        self._given = task_is_given(prompts, config)
        self._examples = [self._cut(group) for group in examples]

    def writing(self, kind: str, passage: str, seed: int, group: int | None = None) -> WriteRequest:
        """A request that the LLM completes with a query, or with a task line and a query.

        Args:
            kind: the kind of task.
            passage: what the LLM reads of the seed.
            seed: decides the request's random numbers.
            group: number of the examples that are shown; None: the prompts' own demonstrations.

        Raises:
            ConfigError: ``generate.chat`` is ``always``, and the LLM has no chat template.
        """
        dialogue = self._dialogue(kind, passage, group, self._given)
        prefix, body = self._shown(dialogue)[:2]
        without = self._prompt(kind, NO_PASSAGE, group, self._given)[1] if self._config.contrast else ""
        return WriteRequest(prefix, body, seed, without, dialogue)

    def likelihoods(self, kind: str, passage: str, query: str, group: int | None = None) -> list[ScoreRequest]:
        """Requests for log P(query | passage) and log P(query), the latter by the same prompt without a passage."""
        requests = []
        for text in (passage, NO_PASSAGE):
            prefix, body, space = self._prompt(kind, text, group, given=True)
            requests.append(ScoreRequest(prefix, body, space + query))
        return requests

    def _prompt(self, kind: str, passage: str, group: int | None, given: bool) -> tuple[str, str, str]:
        return self._shown(self._dialogue(kind, passage, group, given))

    def _dialogue(self, kind: str, passage: str, group: int | None, given: bool) -> Dialogue:
        own = group is not None
        return self._prompts.writing(
            kind,
            passage,
            given=given,
            demonstrations=self._examples[group] if group is not None else None,
            instruction=self._config.examples_instruction if own else None,
        )

    def _shown(self, dialogue: Dialogue) -> tuple[str, str, str]:
        """Prefix and body, and what stands before an answer: a space, or in a chat nothing."""
        chat = self._chat(dialogue)
        return (*chat, "") if chat else (*as_text(dialogue), " ")

    def _chat(self, dialogue: Dialogue) -> tuple[str, str] | None:
        if self._config.chat == "never":
            return None
        rendered = self._llm.chat(dialogue) if isinstance(self._llm, ChatLLM) else None
        if rendered is None and self._config.chat == "always":
            raise ConfigError(
                f"generate.chat: always, but LLM {self._llm.name!r} has no chat template; use auto or another model"
            )
        return rendered

    def _cut(self, group: list[Demonstration]) -> list[Demonstration]:
        """Examples whose passages are as long as what the LLM reads of a seed."""
        texts = self._llm.truncate([example.passage for example in group], self._config.passage_tokens)
        return [example.model_copy(update={"passage": text}) for example, text in zip(group, texts, strict=True)]
