"""A FRet folder on disk: where every stage's parts are, and the manifest that says what they were made from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import locked, remove_leftovers, write_json
from gecko_fret.build.parts import Parts
from gecko_fret.corpus.passages import SCHEMA as CORPUS_SCHEMA
from gecko_fret.corpus.passages import Corpus
from gecko_fret.steps.base import REJECT_SCHEMA, Row
from gecko_fret.steps.filter import QUERY_SCHEMA
from gecko_fret.steps.mine import FRET_SCHEMA
from gecko_fret.steps.retrieve import RETRIEVED_SCHEMA
from gecko_fret.steps.score import SCORED_SCHEMA
from gecko_fret.steps.write import ATTEMPT_SCHEMA

#: Stages in their order, with the folder of their parts.
FOLDERS = {
    "corpus": "corpus",
    "write": "attempts",
    "filter": "generated",
    "embed": "embeddings",
    "retrieve": "retrieved",
    "score": "scored",
    "mine": "fret",
}
_SCHEMAS = {
    "corpus": CORPUS_SCHEMA,
    "write": ATTEMPT_SCHEMA,
    "filter": QUERY_SCHEMA,
    "retrieve": RETRIEVED_SCHEMA,
    "score": SCORED_SCHEMA,
    "mine": FRET_SCHEMA,
}
FORMAT = 1


class Workspace:
    """The output folder of one build."""

    def __init__(self, out: str | Path):
        self.out = Path(out)

    def parts(self, stage: str) -> Parts:
        """The parts of a stage."""
        return Parts(self.out / FOLDERS[stage], _SCHEMAS[stage])

    def rejects(self, stage: str) -> Parts:
        """What a stage rejected, part for part."""
        return Parts(self.out / "rejects", REJECT_SCHEMA, prefix=stage)

    @property
    def manifest_path(self) -> Path:
        return self.out / "manifest.json"

    def read_manifest(self) -> dict[str, Any] | None:
        """The manifest, None where there is none. Raises `DataError` for one that is not ours."""
        try:
            manifest = json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DataError(f"{self.manifest_path}: not readable ({error}); choose another output folder") from None
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or "stages" not in manifest:
            raise DataError(f"{self.manifest_path}: not the manifest of a FRet folder; choose another output folder")
        return manifest

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        write_json(self.manifest_path, manifest)

    def check_usable(self) -> None:
        """Raises `ConfigError` for a folder that holds something else than a build."""
        if self.out.exists() and not self.out.is_dir():
            raise ConfigError(f"{self.out}: is a file; choose a folder for the output")
        if (
            self.read_manifest() is None
            and self.out.is_dir()
            and any(path.name != ".lock" for path in self.out.iterdir())
        ):
            raise ConfigError(f"{self.out}: holds files but no manifest.json of a build; choose an empty folder")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other builds out of the folder while this one runs. Raises `ConfigError` when one is running.

        The lock goes with the process, however it ends. Where the system has no such locks, nothing is kept out. A
        folder that was made here and has got nothing is taken away again.
        """
        new = not self.out.exists()
        busy = ConfigError(f"{self.out}: another build is running in this folder; wait for it")
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or "no folder can be made there"
            raise ConfigError(f"{self.out}: cannot be written ({reason}); choose another output folder") from None
        with locked(self.out / ".lock", busy):
            try:
                yield
            finally:
                if new and [path.name for path in self.out.iterdir()] == [".lock"]:
                    (self.out / ".lock").unlink()
                    self.out.rmdir()

    def remove_leftovers(self) -> None:
        """Deletes the temporary files of a process that was killed while it wrote."""
        remove_leftovers(self.out)

    # -- the inputs of stages, which are joins of earlier stages' parts

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus as the folder keeps it."""
        parts = self.parts("corpus")
        numbers = parts.numbers()
        if not numbers:
            raise DataError(f"{self.out / 'corpus'}: no corpus part; run the build again")
        table = pa.concat_tables([parts.table(number).select(CORPUS_SCHEMA.names) for number in numbers])
        return Corpus.from_table(table, str(self.out))

    def score_inputs(self, number: int) -> list[Row]:
        """Queries of a part that passed the round trip, with their candidates."""
        retrieved = {row["query_id"]: row for row in self.parts("retrieve").rows(number)}
        left_out = {row["id"] for row in self.rejects("retrieve").rows(number)}
        return [
            {"query_id": query["id"], "kind": query["kind"], "query": query["query"]}
            | {"candidate_ids": retrieved[query["id"]]["candidate_ids"]}
            for query in self.parts("filter").rows(number)
            if query["id"] not in left_out
        ]

    def mine_inputs(self, number: int) -> list[Row]:
        """Scored queries of a part with all that is known of them."""
        scores: dict[str, list[Row]] = {}
        for row in self.parts("score").rows(number):
            scores.setdefault(row["query_id"], []).append(row)
        retrieved = {row["query_id"]: row for row in self.parts("retrieve").rows(number)}
        rows = []
        for query in self.parts("filter").rows(number):
            if query["id"] not in scores:
                continue
            found = retrieved[query["id"]]
            similarity = dict(zip(found["candidate_ids"], found["similarities"], strict=True))
            candidates = [
                {"id": s["candidate_id"], "similarity": similarity[s["candidate_id"]], "ql": s["ql"], "rc": s["rc"]}
                for s in scores[query["id"]]
            ]
            names = ("id", "task", "query", "seed_id")
            rows.append(
                {name: query[name] for name in names} | {"seed_rank": found["seed_rank"], "candidates": candidates}
            )
        return rows

    # -- what is in the folder, counted from the parts

    def counts(self) -> dict[str, int]:
        """Rows of every stage."""
        names = {"corpus": "passages", "write": "attempts", "filter": "queries", "retrieve": "retrieved"}
        names |= {"score": "scored_pairs", "mine": "rows"}
        return {label: self._rows(self.parts(stage)) for stage, label in names.items()}

    def reject_counts(self) -> dict[str, dict[str, int]]:
        """Rejected rows by stage and reason, most frequent reason first."""
        found: dict[str, Counter[str]] = {}
        for table in self._reject_tables():
            for stage, reason in zip(table["stage"].to_pylist(), table["reason"].to_pylist(), strict=True):
                found.setdefault(stage, Counter())[reason] += 1
        order = ["corpus", "generate", "retrieve", "score", "mine"]
        return {
            stage: dict(sorted(found[stage].items(), key=lambda item: (-item[1], item[0])))
            for stage in sorted(found, key=lambda name: (order.index(name) if name in order else 9, name))
        }

    def token_counts(self) -> dict[str, dict[str, int]]:
        """Counters (tokens, pairs) of the stages that run an LLM, summed over their parts."""
        totals = {}
        for stage in ("write", "score"):
            parts = self.parts(stage)
            total: Counter[str] = Counter()
            for number in parts.numbers():
                total.update(parts.counters(number))
            totals[stage] = dict(sorted(total.items()))
        return totals

    def _reject_tables(self) -> Iterator[pa.Table]:
        for stage in FOLDERS:
            if stage != "embed":
                parts = self.rejects(stage)
                for number in parts.numbers():
                    yield parts.table(number)

    @staticmethod
    def _rows(parts: Parts) -> int:
        return sum(parts.count(number) for number in parts.numbers())
