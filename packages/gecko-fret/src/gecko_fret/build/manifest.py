"""What a manifest must hold, whoever has edited it: the shapes that builds, reports and plans read.

Older versions wrote fewer keys, and later ones may write more: what is here is checked, what is not passes.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gecko_core.io import describe_error

Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Table = dict[str, Any]


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Config(_Record):
    """The sections that are read without the rest; the whole is for ``FretConfig``."""

    seed: int
    corpus: Table = Field(default_factory=dict)
    generate: Table
    retrieve: Table
    score: Table


class _Corpus(_Record):
    name: str
    passages: Count
    sha256: str


class _Model(_Record):
    name: str
    hash: str
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class _Models(_Record):
    llm: _Model | None = None  # who judges or enriches
    generators: list[_Model] = Field(default_factory=list)
    embedder: _Model


class _Stage(_Record):
    fingerprint: str = ""
    done: bool = False
    seconds: Seconds = 0.0


class _Manifest(_Record):
    format: int = 1
    stages: dict[str, _Stage]
    parts: Table = Field(default_factory=dict)
    config: _Config | None = None
    corpus: _Corpus | None = None
    models: _Models | None = None
    complete: bool = False
    counts: dict[str, Count] = Field(default_factory=dict)
    rejects: dict[str, dict[str, Count]] = Field(default_factory=dict)
    tokens: dict[str, dict[str, Count]] = Field(default_factory=dict)
    judges: Table = Field(default_factory=dict)
    search: Table = Field(default_factory=dict)
    prompts: Table = Field(default_factory=dict)
    llms: dict[str, Table] = Field(default_factory=dict)
    environment: Table = Field(default_factory=dict)

    @model_validator(mode="after")
    def _describes_what_it_counts(self) -> _Manifest:
        for name in ("config", "corpus", "models"):
            if self.stages and getattr(self, name) is None:
                raise ValueError(f"no {name!r}")
        # Version 0.1 (format 1) listed no parts. Without the list nobody can say whether they are what was written.
        if self.format > 1 and not self.parts and any(stage.done for stage in self.stages.values()):
            raise ValueError("no 'parts'")
        return self


def fault_of(manifest: dict[str, Any]) -> str:
    """What is wrong with a manifest, in a few words; empty where nothing is."""
    try:
        _Manifest.model_validate(manifest)
    except ValidationError as error:
        return describe_error(error, _Manifest)
    return ""
