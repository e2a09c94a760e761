"""A FRet folder on disk: the steps' parts, and the manifest that says what they were made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import (
    PartList,
    is_leftover,
    locked,
    missing_folders,
    read_json,
    remove_empty,
    remove_leftovers,
    write_json,
)
from gecko_fret.build.manifest import fault_of
from gecko_fret.config import CorpusConfig, FretConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.steps import CORPUS, PARTIAL, STEPS, Step
from gecko_fret.steps.parts import Parts, Row
from gecko_fret.text_rules import LATEST

#: Formats of FRet folders that are read. A build writes the oldest one that has what it needs, see ``Step.format``.
FORMATS = (1, 2)


def no_fret_folder(path: str | Path) -> DataError:
    """What to tell a user who names a folder without a manifest as a FRet folder."""
    below = Path(path) / "fret"  # of a run of gecko-train
    if (below / "manifest.json").is_file():
        return DataError(f"{path}: not a FRet folder (no manifest.json); the one of this run is {below}")
    return DataError(f"{path}: not a FRet folder (no manifest.json); make one with: gecko-fret build --out {path}")


class Workspace:
    """The output folder of one build.

    Args:
        out: its path.
    """

    def __init__(self, out: str | Path):
        self.out = Path(out)

    @cached_property
    def listed(self) -> PartList:
        """The parts that the manifest lists; none in a folder of version 0.1.

        Raises:
            DataError: the manifest cannot be read.
        """
        return PartList.from_json(self.out, (self.read_manifest() or {}).get("parts"))

    def parts(self, step: Step[Row]) -> Parts[Row]:
        """The parts of a step that is done, checked against the manifest when they are read.

        Raises:
            DataError: one is missing, or not of this build; or the manifest cannot be read.
        """
        parts = step.parts(self.out, listed=self.listed)
        parts.check()
        return parts

    @property
    def manifest_path(self) -> Path:
        """Where the manifest is."""
        return self.out / "manifest.json"

    def read_manifest(self) -> dict[str, Any] | None:
        """The manifest, None where there is none.

        Raises:
            DataError: the file is something else.
        """
        try:
            self.manifest_path.stat()
        except FileNotFoundError:
            return None
        except OSError:
            if self.out.is_file():
                raise no_fret_folder(self.out) from None
            # read_json says what is wrong
        manifest = read_json(self.manifest_path, cure="restore it, or choose another output folder", checksum="sha256")
        if manifest.get("format") not in FORMATS:
            raise DataError(f"{self.manifest_path}: not the manifest of a FRet folder; choose another output folder")
        if fault := fault_of(manifest):
            raise DataError(f"{self.manifest_path}: {fault}; restore the file, or choose another output folder")
        return manifest

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest."""
        write_json(self.manifest_path, manifest, checksum="sha256")

    def with_rules(self, config: FretConfig) -> FretConfig:
        """The configuration with the rules of text that the folder was begun with, unless it names some itself.

        Raises:
            DataError: the manifest cannot be read.
        """
        if config.corpus.text_rules is not None:
            return config
        manifest = self.read_manifest() if self.out.is_dir() else None
        version = LATEST.version
        if manifest is not None and manifest["stages"]:
            version = (
                manifest.get("config", {}).get("corpus", {}).get("text_rules") or 1
            )  # earlier ones had no such key
        return config.model_copy(
            update={"corpus": CorpusConfig.model_validate(config.corpus.model_dump() | {"text_rules": version})}
        )

    def check_usable(self) -> None:
        """Check that a build may write here.

        Raises:
            ConfigError: the folder is a file, or holds something other than a build.
        """
        if self.out.exists() and not self.out.is_dir():
            raise ConfigError(f"{self.out}: is a file; choose a folder for the output")
        if self.read_manifest() is None and self._names() - {".lock"}:
            raise ConfigError(f"{self.out}: holds files but no manifest.json of a build; choose an empty folder")
        for folder in ("rejects", PARTIAL, *(step.folder for step in STEPS)):
            if (self.out / folder).is_symlink():
                raise ConfigError(f"{self.out / folder}: is a link, and parts are deleted there; make it a folder")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other builds out of the folder while this one runs.

        The lock ends with the process, however it ends. Folders that were made here and stayed empty are removed again.

        Raises:
            ConfigError: another build is running in it, or it cannot be made.
        """
        new = missing_folders(self.out)
        busy = ConfigError(f"{self.out}: another build is running in this folder; wait for it")
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or "no folder can be made there"
            raise ConfigError(f"{self.out}: cannot be written ({reason}); choose another output folder") from None
        try:
            with locked(self.out / ".lock", busy):
                yield
        finally:
            remove_empty(new)

    def remove_leftovers(self) -> None:
        """Delete the temporary files of a process that was killed while it wrote."""
        remove_leftovers(self.out)

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus as the folder keeps it.

        Raises:
            DataError: it is missing or damaged.
        """
        return CORPUS.read(self.out, self.listed)

    # -- what is in the folder, counted from the parts

    def counts(self) -> dict[str, int]:
        """Rows of every step, under the name that the step gives them."""
        return {step.counted_as: step.parts(self.out).total() for step in STEPS if step.counted_as}

    def reject_counts(self) -> dict[str, dict[str, int]]:
        """Rejected rows by step and reason, most frequent reason first."""
        counts: dict[str, Counter[str]] = {}
        for step in STEPS:
            rejects = step.rejects(self.out)
            for number in rejects.numbers():
                table = rejects.table(number)
                for stage, reason in zip(table["stage"].to_pylist(), table["reason"].to_pylist(), strict=True):
                    counts.setdefault(stage, Counter())[reason] += 1
        return {
            stage: dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
            for stage, reasons in counts.items()
        }

    def token_counts(self) -> dict[str, dict[str, int]]:
        """Counters (tokens, pairs) of the steps that run an LLM, summed over their parts."""
        totals = {}
        for step in STEPS:
            if step.metered:
                parts, total = step.parts(self.out), Counter[str]()
                for number in parts.numbers():
                    total.update(parts.counters(number))
                totals[step.name] = dict(sorted(total.items()))
        return totals

    def _names(self) -> set[str]:
        names = {path.name for path in self.out.iterdir()} if self.out.is_dir() else set()
        return {name for name in names if not is_leftover(name)}
