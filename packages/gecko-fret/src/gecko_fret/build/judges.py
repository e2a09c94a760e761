"""`gecko-fret judges`: what the judges are worth on a corpus, before a build spends anything on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gecko_core.errors import ConfigError
from gecko_core.io import Progress, write_text
from gecko_fret.build.command import INTERRUPTED, StopFlag, announce, ctrl_c
from gecko_fret.build.fingerprints import check_config
from gecko_fret.build.folder import Workspace
from gecko_fret.build.pipeline import build_fret, read_corpus
from gecko_fret.build.report import ReportSection, as_text, report_text
from gecko_fret.build.report.judges import judge_sections
from gecko_fret.build.run import OtherRunError
from gecko_fret.config import FretConfig, load_config, parse_config
from gecko_fret.corpus.passages import Corpus
from gecko_fret.models import Models
from gecko_fret.steps import MEASURE

#: Asked unless ``--judges`` says otherwise: all that need no further model; bm25 where it is installed.
ASKED = ("similarity", "ql", "rc", "yes-no", *(("bm25",) if find_spec("bm25s") else ()))


@dataclass(frozen=True, slots=True)
class JudgesOptions:
    """The command line's options."""

    config: Path | None
    out: Path
    overrides: list[str]
    judges: list[str]
    prompts: list[str]


def run_judges(options: JudgesOptions) -> int:
    """Measure the judges with every prompt, and print and write what came out.

    Returns:
        The exit code.

    Raises:
        GeckoError: whatever the user can mend.
    """
    config = measuring_config(load_config(options.config, options.overrides), options.judges)
    prompts = options.prompts or [config.score.prompt]
    corpus = read_corpus(config.corpus)
    flag = StopFlag()
    with ctrl_c(flag):
        sections = measure_judges(
            config, options.out, prompts, corpus=corpus, progress=True, stop=flag, announce=announce
        )
    if sections is None:
        print(f"stopped; everything so far is in {options.out}. The same command goes on from there.")
        return INTERRUPTED
    for path in _write(options.out, sections):
        print(path)
    print()
    print("\n\n".join(as_text(section) for section in sections))
    return 0


def measuring_config(config: FretConfig, judges: Sequence[str] = ()) -> FretConfig:
    """The configuration of a measurement: as many seeds as it looks at, and the judges to compare.

    Args:
        config: the configuration of the build to come.
        judges: names; none: ``ASKED``, and whatever the configuration names.
    """
    able = [name for name in ASKED if name != "ql" or not config.llm.is_chat]
    named = list(judges) or list(dict.fromkeys([*able, *config.score.all_judges]))
    values = config.model_dump()
    values["mine"]["fuse"] = "calibrated"
    values["score"] |= {"judges": named, "blocks": True}
    values["retrieve"]["seed_top_k"] = None
    values["generate"]["seeds"] = max(config.measure.seeds, 1)
    return parse_config(values, "judges")


def measure_judges(
    config: FretConfig,
    out: str | Path,
    prompts: Sequence[str],
    *,
    corpus: Corpus | None = None,
    progress: Progress | bool | None = None,
    stop: Callable[[], bool] | None = None,
    models: Models | None = None,
    announce: Callable[[str], None] | None = None,
) -> list[ReportSection] | None:
    """Measure the judges of a configuration with several prompt files.

    Each prompt has a folder of its own below ``out``, a build that ends with the measurement; a call that was stopped
    goes on where it was. Corpus embeddings are shared between them.

    Args:
        config: see ``measuring_config``.
        out: the folder.
        prompts: names or paths of prompt files for scoring.
        corpus: passages to use instead of reading ``config.corpus``.
        progress: see ``build_fret``.
        stop: see ``build_fret``.
        models: ready-made models.
        announce: see ``build_fret``.

    Returns:
        The tables, those of one prompt after the other; None where ``stop`` ended the measurement.

    Raises:
        ConfigError: two prompts have the same name, or the folder is a file.
        GeckoError: see ``build_fret``.
    """
    if Path(out).exists() and not Path(out).is_dir():
        raise ConfigError(f"{out}: is a file; choose a folder for the output")
    names = [Path(prompt).stem for prompt in prompts]
    if len(set(names)) < len(names):
        raise ConfigError("--prompt: two prompt files have the same name; rename one")
    sections: list[ReportSection] = []
    for name, prompt in zip(names, prompts, strict=True):
        values = config.model_dump()
        values["score"]["prompt"] = prompt
        values["retrieve"]["cache"] = config.retrieve.cache or str(Path(out) / "embeddings")
        settings = FretConfig.model_validate(values)
        check_config(settings)
        folder = Path(out) / name
        options: dict[str, Any] = {
            "progress": progress,
            "stop": stop,
            "announce": announce if name == names[0] else None,
        }
        try:
            build_fret(settings, folder, corpus=corpus, models=models, until=MEASURE, **options)
        except OtherRunError as error:  # of whose cures this command has one
            raise ConfigError(f"{error.what}; choose another output folder (--out), or remove that one") from None
        manifest: dict[str, Any] = Workspace(folder).read_manifest() or {}
        if not manifest.get("stages", {}).get(MEASURE.name, {}).get("done"):
            return None
        for section in judge_sections(manifest[MEASURE.recorded_as]):
            section.title = f"{section.title} (prompt {name})" if len(prompts) > 1 else section.title
            sections.append(section)
    return sections


def _write(out: Path, sections: Sequence[ReportSection]) -> list[Path]:
    """Write judges.md and judges.html."""
    paths = [out / "judges.md", out / "judges.html"]
    for path in paths:
        write_text(path, report_text(sections, f"report{path.suffix}", "Judges"))
    return paths
