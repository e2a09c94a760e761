"""What the servers of a build can do: which judges can be asked over them, shown as one table before the first part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gecko_core.errors import ConfigError
from gecko_fret.build.report import ReportSection, as_text
from gecko_fret.config import FretConfig, LLMConfig
from gecko_fret.judges import JUDGES, ask_llm
from gecko_fret.judges.yes_no import YesNo, YesNoBlock
from gecko_fret.llm.capabilities import Capabilities
from gecko_fret.models import Models
from gecko_fret.prompting import load_prompt

_LABEL_JUDGES = ("rc", "yes-no")


def check_served(config: FretConfig, models: Models) -> str | None:
    """Ask the servers of a build what they can do, unless that is known, and check that it is enough.

    Args:
        config: the build's configuration.
        models: the build's models.

    Returns:
        The table for the user; None where no LLM is behind a server that is asked.

    Raises:
        ConfigError: the configuration asks for more than a server can do; one line that lists what would work.
        BackendError: a server cannot be reached, or does not write.
    """
    served = _served(config, models)
    for section, can in served:
        wanted = list(problems(config, section, can))
        if wanted:
            able = [name for name in JUDGES if way(config, section, can, name)]
            kept = [name for name in able if name in config.score.all_judges and JUDGES[name].uses_llm]
            example = list(dict.fromkeys(["similarity", *(kept or ["yes-no"])]))
            raise ConfigError(
                f"LLM {section.model} at {section.url}: {'; '.join(wanted)}; judges that work with it: "
                f"{', '.join(able)}, for example score.judges=[{', '.join(example)}] (of gecko-fret judges: --judges "
                f"{','.join(example)})"
            )
    return _tables(config, served)


def run_llms(config: FretConfig) -> str:
    """What the servers of a configuration can do, whatever it asks of them.

    Raises:
        ConfigError: no LLM of the configuration is behind a server that can be asked.
        BackendError: a server cannot be reached, or does not write.
    """
    models = Models()
    try:
        tables = _tables(config, _served(config, models))
    finally:
        models.close()
    if tables is None:
        raise ConfigError(
            "no LLM of this configuration is behind a server; name one with llm.preset, or with llm.backend=openai and "
            "llm.url"
        )
    return tables


def _served(config: FretConfig, models: Models) -> list[tuple[LLMConfig, Capabilities]]:
    known = [(section, models.capabilities(section)) for section in asked_llms(config)]
    return [(section, can) for section, can in known if can is not None]


def _tables(config: FretConfig, served: Sequence[tuple[LLMConfig, Capabilities]]) -> str | None:
    return "\n\n".join(as_text(_table(config, section, can)) for section, can in served) or None


def asked_llms(config: FretConfig) -> list[LLMConfig]:
    """The LLMs that judge, enrich or write, each once; none where queries and judges need none."""
    sections: list[LLMConfig] = []
    for section in (*scorers(config), *([config.llm] if config.enrich.prompt else []), *config.writers):
        if section not in sections:
            sections.append(section)
    return sections


def scorers(config: FretConfig) -> list[LLMConfig]:
    """The LLM that judges, where one is asked."""
    return [config.llm] if ask_llm(config.score.all_judges) else []


def problems(config: FretConfig, section: LLMConfig, can: Capabilities) -> Iterator[str]:
    """What is asked of an LLM that its server cannot do, or not like this."""
    if can.thinks and not section.thinking_tokens:
        yield (
            "the model thinks before it answers; switch that off (llm.extra_body), or allow it llm.thinking_tokens, "
            "such as 1024"
        )
    if section in scorers(config):
        for name in config.score.all_judges:
            if name in JUDGES and way(config, section, can, name) is None:
                yield f"judge {name} needs {_needs(name)}, which the {can.api} API of this server does not give"
        if config.score.mode == "joint" and not can.echo:
            yield "score.mode joint needs log-probabilities of the prompt; use auto"
    if section in config.writers:
        if config.generate.grounds and not can.echo:
            yield "generate.keep grounded and generate.min_grounding need log-probabilities of the prompt"
        if config.generate.keep == "best" and not can.logprobs:
            yield "generate.keep best needs log-probabilities of the answer"


def way(config: FretConfig, section: LLMConfig, can: Capabilities, judge: str) -> str | None:
    """How a judge is asked over a server, in words; None where it cannot be."""
    if not JUDGES[judge].uses_llm:
        return "without the LLM"
    if judge == "ql":
        return "log-probabilities of the prompt" if can.echo else None
    if judge == YesNo.name and can.api == "chat" and load_prompt(config.score.yes_no.prompt, YesNoBlock).full:
        return None
    if judge in _LABEL_JUDGES:
        if can.echo:
            return "log-probabilities of every label"
        if can.alternatives:
            return f"the {can.alternatives} likeliest tokens; labels that are not among them are bounded"
        return f"counted in {section.samples} sampled answers"
    return "what it writes"


def _needs(judge: str) -> str:
    if judge == YesNo.name:
        return "a prompt without marks of a chat of its own (score.yes_no.prompt)"
    return "log-probabilities of the prompt"


def _table(config: FretConfig, section: LLMConfig, can: Capabilities) -> ReportSection:
    answer = f"yes, and of {can.alternatives} alternatives" if can.alternatives else _yes(can.logprobs)
    thinks = f"yes, up to {section.thinking_tokens} tokens" if can.thinks else "no"
    rows = [
        ("writes", _yes(can.generates)),
        ("log-probabilities of the prompt", _yes(can.echo)),
        ("log-probabilities of the answer", answer),
        ("seeds", _yes(can.seed)),
        ("stop strings", _yes(can.stop)),
        ("response schema", _yes(can.schema)),
        ("thinks before it answers", thinks),
    ]
    asked = [name for name in JUDGES if JUDGES[name].uses_llm]
    rows += [(f"judge {name}", way(config, section, can, name) or "no") for name in asked]
    return ReportSection(f"LLM {section.model}", f"{section.url}, {can.api} API", ("", "can"), rows)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
