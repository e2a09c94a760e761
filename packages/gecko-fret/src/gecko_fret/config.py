"""The configuration of a build: everything that decides what the data holds and how it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gecko_core.io import Section, load_settings, parse_settings
from gecko_fret.llm import CONTRASTIVE
from gecko_fret.llm.config import LLMConfig as LLMConfig
from gecko_fret.text_rules import LATEST, RULES, TextRules

#: The judges of the paper, which rows have columns of their own for.
PAPER_JUDGES = ("ql", "rc")

#: Who judges unless ``score.judges`` says otherwise, by ``mine.fuse``.
DEFAULT_JUDGES = {"rrf": PAPER_JUDGES, "calibrated": ("similarity", "ql", "yes-no")}


#: ``generate.neighbourhoods`` where it is left open and seeds are few. Larger ones have no more candidates in common
#: (1.8 queries a candidate with 8 and 16, 1.1 one by one; 300 and 600 seeds of python-docs), and fewer of them fit.
NEIGHBOURHOOD = 8

#: ``generate.contrast`` where it is left open and the backend can (benchmarks/queries.py).
CONTRAST = 0.5


class CorpusConfig(Section):
    """Which passages are read, see ``gecko_fret.corpus.load_corpus``."""

    path: str | None = Field(
        default=None, description="folder, .jsonl/.csv/.tsv/.parquet file, or hub:NAME; unset: python-docs"
    )
    split: Literal["auto", "always", "never"] = "auto"
    deduplicate: Literal["none", "exact", "near"] = "exact"
    near_threshold: float = Field(default=0.85, gt=0, le=1)
    language: str | None = Field(
        default=None, description="keep only passages that look like this language (ISO 639-1)"
    )
    limit: int | None = Field(default=None, ge=1)
    part_size: int = Field(default=1024, ge=1, description="passages per part, of the corpus and of its embeddings")
    text_rules: Literal[1, 2, 3] | None = Field(
        default=None,
        description="what equal texts, words, sentences and headings are: 1 as in version 0.1, 2 in all scripts by "
        "Unicode, 3 headings by CommonMark, too; unset: what the output folder was begun with, 3 in a new one",
    )

    @property
    def rules(self) -> TextRules:
        """The rules of ``text_rules``."""
        return LATEST if self.text_rules is None else RULES[self.text_rules]


class EmbedderConfig(Section):
    """The embedder that retrieves the neighbours."""

    model: str = "all-minilm-l6-v2"
    prompt_style: Literal["auto", "gecko", "plain"] = Field(
        default="auto",
        description="gecko: task in the query text; plain: as it is; auto: what the model was trained on",
    )
    batch_tokens: int | None = Field(
        default=None, ge=256, description="tokens per forward pass; unset: what suits the device"
    )
    device: str | None = None


class GenerateConfig(Section):
    """Writing queries."""

    seeds: int | None = Field(default=1000, ge=1, description="seed passages drawn from the corpus; unset: all")
    neighbourhoods: int | None = Field(
        default=None,
        ge=1,
        description="seeds are drawn as neighbourhoods of so many passages, whose queries have candidates in common; "
        f"1: one by one; unset: 1 with mine.fuse: rrf, else {NEIGHBOURHOOD} where the seeds are less than a quarter of "
        "the corpus",
    )
    attempts: int = Field(default=2, ge=1, description="queries asked for per seed")
    prompt: str = Field(default="default", description="name of a packaged prompt file, or path of a YAML file")
    kinds: dict[str, float] | None = Field(
        default=None, description="weights of the task kinds; unset: all, with equal weights"
    )
    max_new_tokens: int = Field(default=40, ge=4)
    temperature: float = Field(default=0.7, ge=0, le=10)
    top_p: float = Field(default=0.95, gt=0, le=1)
    top_k: int = Field(default=50, ge=1)
    passage_tokens: int = Field(default=128, ge=8, description="the LLM reads this much of the seed")
    min_words: int = Field(default=3, ge=1)
    max_words: int = Field(default=40, ge=1)
    max_copied: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="reject a query whose longest run of words shared with the passage is above this share",
    )
    language: str | None = Field(default=None, description="reject queries that do not look like this language")
    keep: Literal["all", "best", "grounded"] = Field(
        default="all",
        description="per seed, the attempt with the highest mean log-prob (best), or the one that the passage makes "
        "likelier by most: log P(query | passage) - log P(query) (grounded)",
    )
    part_size: int = Field(default=32, ge=1, description="seeds per part")
    write_task: bool | None = Field(
        default=None,
        description="the LLM writes the task before the query, as in the paper; false: it is told the task, where the "
        "prompts' tasks are closed; unset: true with mine.fuse: rrf, so that old builds keep their bytes, else false",
    )
    chat: Literal["auto", "always", "never"] = Field(
        default="never", description="the model's chat template; auto: where it has one"
    )
    contrast: float | None = Field(
        default=None,
        ge=0,
        le=1_000,
        description="contrastive decoding: this much of a token's log-prob without the passage is taken off; unset: 0 "
        "with mine.fuse: rrf and for backends that cannot, else 0.5",
    )
    plausible: float = Field(
        default=0.2, gt=0, le=1, description="contrast: share of the likeliest token's probability that a token needs"
    )
    min_grounding: float | None = Field(
        default=None, description="reject a query whose log P(query | passage) - log P(query), per token, is below"
    )
    examples: str | None = Field(
        default=None,
        description="queries of your own users, one a line or a table with a column `query`: the LLM writes like them",
    )
    examples_shown: int = Field(default=6, ge=1, description="examples in one prompt; of more, every prompt has others")
    examples_instruction: str = "For each passage, write the query of a user who is looking for it."
    user_task: str = Field(
        default="search result", description="the task of your users' queries, and of those written like them"
    )
    sources: list[Literal["llm", "titles", "sentences", "log"]] = Field(
        default=["llm"], min_length=1, description="where queries come from"
    )
    log: str | None = Field(
        default=None, description="queries of your own users, without answers; read as generate.examples is"
    )
    per_source: dict[Literal["titles", "sentences", "log"], int] = Field(
        default_factory=dict,
        description="most queries of a source; unset: of titles and sentences one a seed, of the log all",
    )

    @model_validator(mode="after")
    def _sources_fit(self) -> GenerateConfig:
        if len(set(self.sources)) != len(self.sources):
            raise ValueError("sources: a name is there twice; name each source once")
        if ("log" in self.sources) != (self.log is not None):
            raise ValueError("log and sources belong together: name the file in log, and log in sources")
        for source, count in self.per_source.items():
            if source not in self.sources:
                raise ValueError(f"per_source: {source} is not in sources; add it there or leave it out here")
            if count < 1:
                raise ValueError(f"per_source: {source} must be at least 1; to have none, leave it out of sources")
        return self

    @model_validator(mode="after")
    def _lengths_fit(self) -> GenerateConfig:
        if self.min_words > self.max_words:
            raise ValueError(f"generate.min_words ({self.min_words}) is above generate.max_words ({self.max_words})")
        return self

    @property
    def grounds(self) -> bool:
        """Whether it is measured how much likelier the passage makes each query."""
        return self.keep == "grounded" or self.min_grounding is not None


#: The keys of ``generate`` that step filter reads, and step write does not: changing them writes no attempt again. They
#: are in this section, and step write has the others in its fingerprint, because folders of version 0.1 have it so.
FILTER_KEYS = {"min_words", "max_words", "max_copied", "language", "keep", "min_grounding"}
#: Where queries come from besides the LLM: read by step filter, too.
SOURCE_KEYS = {"sources", "log", "per_source"}
#: What attempts are written with, since version 0.2. A fingerprint holds those that ask for something that 0.1 had not.
WRITING_KEYS = {
    "neighbourhoods": 1,
    "write_task": True,
    "chat": "never",
    "contrast": 0.0,
    "plausible": 0.2,
    "examples": None,
    "examples_shown": 6,
    "examples_instruction": GenerateConfig.model_fields["examples_instruction"].default,
    "user_task": "search result",
}


class EnrichConfig(Section):
    """Rewriting passages before they are encoded; the passages themselves stay as they are."""

    prompt: str | None = Field(
        default=None,
        description="enrich-context, enrich-acronyms, enrich-grammar, enrich-metadata, or path of a YAML file; "
        "unset: nothing is enriched",
    )
    passage_tokens: int = Field(default=256, ge=8, description="the LLM reads this much of a passage")
    max_new_tokens: int = Field(default=320, ge=4)
    temperature: float = Field(default=0.0, ge=0, description="0: the likeliest token")
    top_p: float = Field(default=1.0, gt=0, le=1)
    chat: Literal["auto", "always", "never"] = Field(
        default="auto", description="the model's chat template; auto: where it has one"
    )
    min_length: float = Field(default=0.5, ge=0, description="fewest words of an answer, as a share of the text's")
    max_length: float = Field(default=4.0, gt=0, description="most words, likewise; 40 are never too many")
    language: str | None = Field(default=None, description="answers must look like this language (ISO 639-1)")
    part_size: int = Field(default=32, ge=1, description="passages per part")

    @model_validator(mode="after")
    def _lengths_fit(self) -> EnrichConfig:
        if self.min_length > self.max_length:
            raise ValueError(f"enrich.min_length ({self.min_length}) is above enrich.max_length ({self.max_length})")
        return self


class RetrieveConfig(Section):
    """Finding each query's candidates."""

    candidates: int = Field(default=20, ge=2, description="N of the paper")
    bm25: int = Field(
        default=0, ge=0, description="up to this many further candidates by BM25, which the embedder did not find"
    )
    search: Literal["auto", "exact", "hnsw"] = "auto"
    hnsw_above: int = Field(
        default=500_000,
        ge=1,
        description="auto: passages above which hnswlib replaces exact search where there are over 100,000 queries",
    )
    hnsw_repeatable: bool = Field(
        default=True, description="build the graph on one thread, so that it is the same every time"
    )
    seed_top_k: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        default="auto",
        description="round trip: keep a query only if its own seed is among its top k; null: keep all; auto: 4 with "
        "mine.fuse: rrf, else null, because there the judges decide (mine.seed_rank)",
    )
    first_pass: bool = Field(
        default=False, description="train the embedder on (query, seed) before it retrieves, as the paper does"
    )
    cache: str | None = Field(default=None, description="folder of corpus embeddings shared between builds")
    part_size: int = Field(default=32, ge=1, description="queries per part; the scored and mined parts follow")

    @model_validator(mode="after")
    def _round_trip_fits(self) -> RetrieveConfig:
        if isinstance(self.seed_top_k, int) and self.seed_top_k > self.candidates:
            raise ValueError(
                f"retrieve.seed_top_k ({self.seed_top_k}) is above retrieve.candidates ({self.candidates}); lower it, "
                "or set it to null to keep all queries"
            )
        return self


class YesNoConfig(Section):
    """Judge ``yes-no``."""

    prompt: str = Field(
        default="yes-no", description="packaged prompt (yes-no, qwen3-reranker), or path of a YAML file"
    )


class Bm25Config(Section):
    """Judge ``bm25``."""

    k1: float = Field(default=1.2, ge=0, le=1_000)
    b: float = Field(default=0.75, ge=0, le=1)
    stop_words: str | None = Field(
        default="en", description="language of the words left out, see bm25s.tokenize; null: none"
    )


class JudgeEmbedderConfig(Section):
    """Judge ``embedder``: another embedding model than the one that retrieves."""

    model: str | None = Field(default=None, description="folder, packaged model or hub id; the judge needs it")
    library: Literal["gecko", "sentence-transformers"] = Field(
        default="gecko", description="sentence-transformers reads every pooling (gecko-fret[rerank])"
    )
    query_prompt: str | None = Field(default=None, description="before queries; unset: what the model says")
    document_prompt: str | None = Field(default=None, description="before passages; unset: what the model says")
    device: str | None = None


class CrossEncoderConfig(Section):
    """Judge ``cross-encoder`` (``gecko-fret[rerank]``)."""

    model: str | None = Field(default=None, description="folder or hub id of a reranker; the judge needs it")
    batch_size: int = Field(default=32, ge=1, description="pairs per forward pass")
    max_length: int | None = Field(
        default=512,
        ge=8,
        description="most tokens of query and passage together, of those that the model can read; null: all of them",
    )
    device: str | None = None


class ListwiseConfig(Section):
    """Judge ``listwise``."""

    prompt: str = Field(default="listwise", description="name of a packaged prompt file, or path of a YAML file")
    window: int = Field(default=10, ge=2, description="passages that the LLM orders at once")
    step: int = Field(default=5, ge=1, description="how far the window moves on; below window, so that they overlap")
    passage_tokens: int = Field(default=64, ge=8, description="the LLM reads this much of each passage")
    debias: bool = Field(
        default=False, description="order every list twice, the second time shuffled, and take the mean rank"
    )

    @model_validator(mode="after")
    def _windows_overlap(self) -> ListwiseConfig:
        if self.step >= self.window:
            raise ValueError(f"listwise.step ({self.step}) must be below listwise.window ({self.window})")
        return self


class ScoreConfig(Section):
    """Judging every candidate."""

    judges: list[str] | None = Field(
        default=None,
        min_length=1,
        description="who judges the candidates; unset: ql and rc with mine.fuse: rrf, else similarity, ql and yes-no; "
        "over a chat API without ql",
    )
    mode: Literal["auto", "separate", "joint"] = Field(
        default="auto",
        description="joint: ql and a label judge (yes-no, else rc) from one forward pass; auto: separate with "
        "mine.fuse: rrf, else joint where both are asked and the prompt allows it",
    )
    prompt: str = "default"
    passage_tokens: int = Field(default=128, ge=8, description="the LLM reads this much of a candidate")
    query_tokens: int = Field(default=64, ge=4)
    skip_useless: bool = Field(
        default=True, description="mine.fuse: calibrated: judges of weight 0 judge the known items only"
    )
    blocks: bool | None = Field(
        default=None,
        description="compute the queries of one passage side by side, equal up to rounding; unset: not with "
        "mine.fuse: rrf, so that old builds keep their bytes",
    )
    calibrate: bool | None = Field(
        default=None,
        description="rc and yes-no: less what an empty query gives for the passage; unset: not with mine.fuse: rrf, "
        "so that old builds keep their bytes",
    )
    yes_no: YesNoConfig = YesNoConfig()
    bm25: Bm25Config = Bm25Config()
    embedder: JudgeEmbedderConfig = JudgeEmbedderConfig()
    cross_encoder: CrossEncoderConfig = CrossEncoderConfig()
    listwise: ListwiseConfig = ListwiseConfig()

    @model_validator(mode="after")
    def _judges_fit(self) -> ScoreConfig:
        if self.judges is not None and len(set(self.judges)) != len(self.judges):
            raise ValueError("judges: a name is there twice; name each judge once")
        return self

    @property
    def further_judges(self) -> list[str]:
        """The judges beyond ql and rc."""
        return [name for name in self.judges or () if name not in PAPER_JUDGES]

    @property
    def all_judges(self) -> list[str]:
        """All judges, ql and rc first: their order in the list changes nothing."""
        return [*(name for name in PAPER_JUDGES if name in (self.judges or ())), *self.further_judges]


class MeasureConfig(Section):
    """Measuring the judges on items whose answer is known without labels (``mine.fuse: calibrated``)."""

    items: int = Field(
        default=48, ge=8, description="titles whose passage is known; sentences where passages have no titles"
    )
    seeds: int = Field(default=24, ge=0, description="written queries whose seed is known; shown, not fitted on")
    candidates: int = Field(default=20, ge=2, description="candidates of an item, the known one among them")
    ridge: float | None = Field(default=None, gt=0, description="strength of the fit's ridge; unset: cross-validated")
    part_size: int = Field(default=8, ge=1, description="items per part")


class MineConfig(Section):
    """Scores to labels."""

    fuse: Literal["calibrated", "rrf"] = Field(
        default="calibrated",
        description="calibrated: a probability, by weights fitted on known items; rrf: the paper's rank fusion",
    )
    rrf_k: float = Field(
        default=0.0, ge=0, description="R = 1/(k + rank_QL) + 1/(k + rank_RC); 0 is the paper, 60 the usual RRF"
    )
    positive: Literal["p_1", "seed"] = "p_1"
    negative: Literal["p_N", "random", "none"] = Field(
        default="p_N",
        description="p_N: from the lowest rank up; with fuse: calibrated the most probable below max_probability",
    )
    negatives: int = Field(default=1, ge=1, description="how many")
    min_probability: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="fuse: calibrated: least probability of the positive; above 0, among so few candidates that it is "
        "near chance, one and a half times that",
    )
    max_probability: float = Field(
        default=0.03, gt=0, le=1, description="fuse: calibrated: a negative's probability is below it"
    )
    seed_rank: int | None = Field(
        default=4, ge=1, description="fuse: calibrated: worst rank of the seed by the judges; null: any"
    )
    unanswered: Literal["keep", "reject"] = Field(
        default="keep",
        description="fuse: calibrated: a query that fails min_probability or seed_rank becomes a row without a "
        "positive, whose candidates and probabilities still teach; or a reject",
    )
    max_similarity: float | None = Field(
        default=0.95, gt=0, description="a negative's similarity to the query stays below this share of the positive's"
    )
    min_relevance: float | None = Field(
        default=None, ge=0, le=4, description="least expected label of the positive by rc"
    )
    require_negative: bool = Field(
        default=False, description="reject a row for which no candidate may serve as negative"
    )
    decontaminate: list[str] = Field(default_factory=list, description="evaluation sets: BEIR folders or text tables")

    @classmethod
    def upgrade(cls, values: Any) -> Any:
        """See ``Section``; version 0.1 knew the paper's fusion alone."""
        upgraded = super().upgrade(values)
        return {"fuse": "rrf", **upgraded} if isinstance(upgraded, Mapping) else upgraded


class FretConfig(Section):
    """One build. Fingerprints of its sections decide which parts of an output folder are still valid."""

    seed: int = Field(default=0, ge=0)
    corpus: CorpusConfig = CorpusConfig()
    llm: LLMConfig = LLMConfig()
    generators: list[LLMConfig] = Field(
        default_factory=list, description="LLMs that write the queries, mixed by weight; empty: `llm` alone"
    )
    embedder: EmbedderConfig = EmbedderConfig()
    enrich: EnrichConfig = EnrichConfig()
    generate: GenerateConfig = GenerateConfig()
    retrieve: RetrieveConfig = RetrieveConfig()
    score: ScoreConfig = ScoreConfig()
    measure: MeasureConfig = MeasureConfig()
    mine: MineConfig = MineConfig()

    @model_validator(mode="after")
    def _fill_what_depends_on_the_fusion(self) -> FretConfig:
        paper = self.mine.fuse == "rrf"
        if self.score.judges is None:
            judges = [name for name in DEFAULT_JUDGES[self.mine.fuse] if paper or name != "ql" or not self.llm.is_chat]
            self.score = self.score.model_copy(update={"judges": judges})
        if self.score.mode == "auto" and paper:
            self.score = self.score.model_copy(update={"mode": "separate"})
        if self.score.blocks is None:
            self.score = self.score.model_copy(update={"blocks": not paper})
        if self.score.calibrate is None:
            self.score = self.score.model_copy(update={"calibrate": not paper})
        if self.retrieve.seed_top_k == "auto":
            filled = self.retrieve.model_dump() | {"seed_top_k": min(4, self.retrieve.candidates) if paper else None}
            self.retrieve = RetrieveConfig.model_validate(filled)
        if self.generate.neighbourhoods is None and paper:
            self.generate = self.generate.model_copy(update={"neighbourhoods": 1})
        if self.generate.write_task is None:
            self.generate = self.generate.model_copy(update={"write_task": paper})
        if self.generate.contrast is None:
            able = all(llm.backend in CONTRASTIVE for llm in self.writers)
            contrast = CONTRAST if able and not paper else 0.0
            self.generate = self.generate.model_copy(update={"contrast": contrast})
        return self

    @property
    def writers(self) -> list[LLMConfig]:
        """The LLMs that write; none where no query is to be written."""
        return (self.generators or [self.llm]) if "llm" in self.generate.sources else []


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> FretConfig:
    """Read a YAML file (without one: the defaults) and apply ``a.b=c`` overrides.

    Raises:
        ConfigError: see ``gecko_core.io.load_settings``.
    """
    return load_settings(FretConfig, path, overrides)


def parse_config(values: Any, where: str = "config") -> FretConfig:
    """Check a mapping.

    Raises:
        ConfigError: one line: ``where``, the key, what is wrong.
    """
    return parse_settings(FretConfig, values, where)
