"""What a judge is: it looks at a query and a candidate passage, and says how well they belong together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa

from gecko_fret.config import FretConfig, ScoreConfig
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.llm.protocol import LLM, Scored, ScoreRequest
from gecko_fret.models import Models
from gecko_fret.prompting import PromptSet, one_line, prompt_text

#: What stands in place of a query that says nothing, for calibration.
EMPTY_QUERY = "N/A"


@dataclass(frozen=True, slots=True)
class JudgeSetup:
    """What a judge may use.

    Attributes:
        config: the build's configuration.
        models: LLMs and embedders of the build.
        corpus: its passages, for statistics; what a judge reads of a pair is the pair's own passage.
    """

    config: FretConfig
    models: Models
    corpus: Corpus


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and one of its candidates; ``kind`` is the kind of task, ``similarity`` the embedder's cosine.

    The passage of a known item may lack its title, or the sentence that is the query: it need not be the corpus' text.
    """

    query_id: str
    kind: str
    query: str
    passage: Passage
    similarity: float


@dataclass(frozen=True, slots=True)
class PromptedPair:
    """A pair as prompts show it: on one line each, cut to the tokens that the LLM may read."""

    kind: str
    passage: str
    query: str


@dataclass(frozen=True, slots=True)
class JointPrompt:
    """A prompt from which ``ql`` and a label judge are read in one pass, see ``gecko_fret.judges.joint``.

    Attributes:
        judge: the label judge.
        request: from a passage and a query, as prompts show them, to a request with the query as continuation.
        labels: what the LLM would write for each label.
    """

    judge: str
    request: Callable[[str, str], ScoreRequest]
    labels: Sequence[str]


@dataclass(frozen=True, slots=True)
class JointScores:
    """Likelihoods, and labels where they are asked for.

    Attributes:
        pairs: of every pair.
        empty: of every distinct passage with an empty query, where labels are calibrated.
    """

    pairs: list[Scored]
    empty: list[Scored]


class Batch:
    """The pairs of one part, with what several judges need of them, computed when the first one asks.

    Args:
        pairs: the pairs.
        setup: the build's models and configuration.
        prompts: the prompts for scoring.
        joint_prompt: what ``ql`` and a label judge are read from together; None: each has a pass of its own.
        asked: names of the judges that will ask; None: all of the configuration.

    Attributes:
        counters: what judges count; kept with the part, as its tokens are.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        setup: JudgeSetup,
        prompts: PromptSet,
        joint_prompt: JointPrompt | None = None,
        asked: Collection[str] | None = None,
    ):
        self.pairs, self.prompts, self._setup, self._joint_prompt = pairs, prompts, setup, joint_prompt
        self._asked = setup.config.score.all_judges if asked is None else asked
        self.counters: Counter[str] = Counter()
        self._joint: JointScores | None = None

    @property
    def config(self) -> ScoreConfig:
        """Section ``score``."""
        return self._setup.config.score

    @property
    def llm(self) -> LLM:
        """The scoring LLM, loaded when the first judge asks for it."""
        return self._setup.models.llm(self._setup.config.llm)

    def score(self, requests: Sequence[ScoreRequest], labels: Sequence[str] = ()) -> list[Scored]:
        """``LLM.score``, with ``score.blocks`` requests of one prefix and context side by side; results in order."""
        return self.llm.score(requests, labels, blocks=bool(self.config.blocks))

    @cached_property
    def prompted(self) -> list[PromptedPair]:
        """Every pair as prompts show it; each text is cut once."""
        shown = list(dict.fromkeys(prompt_text(pair.passage) for pair in self.pairs))
        cut = dict(zip(shown, self.llm.truncate(shown, self.config.passage_tokens), strict=True))
        queries = list(dict.fromkeys(one_line(pair.query) for pair in self.pairs))
        short = dict(zip(queries, self.llm.truncate(queries, self.config.query_tokens), strict=True))
        return [
            PromptedPair(pair.kind, cut[prompt_text(pair.passage)], short[one_line(pair.query)]) for pair in self.pairs
        ]

    @cached_property
    def passages(self) -> list[str]:
        """The distinct passages of ``prompted``, in the order in which they first appear."""
        return list(dict.fromkeys(pair.passage for pair in self.prompted))

    def is_joint(self, judge: str) -> bool:
        """Whether this judge, ``ql`` or the label judge, reads what it says from ``joint``."""
        return self._joint_prompt is not None and judge in ("ql", self._joint_prompt.judge)

    @property
    def joint(self) -> JointScores:
        """Query likelihood and label probabilities of every pair from one forward pass.

        Where the label judge is not asked, as it is when its weight is 0, the pass ends with the query.
        """
        # No cached_property: up to Python 3.11 one lock serves it in all batches, and who waits for a server would
        # hold it while another lane (llm/lanes.py) has the turn and waits for the lock.
        if self._joint is None:
            self._joint = self._score_jointly()
        return self._joint

    def _score_jointly(self) -> JointScores:
        assert self._joint_prompt is not None
        labelled = self._joint_prompt.judge in self._asked
        request = self._joint_prompt.request
        requests = [request(pair.passage, pair.query) for pair in self.prompted]
        if not labelled:
            return JointScores(self.score([replace(asked, tail="") for asked in requests]), [])
        empty = [request(passage, EMPTY_QUERY) for passage in self.passages] if self.config.calibrate else []
        scored = self.score([*requests, *empty], self._joint_prompt.labels)
        return JointScores(scored[: len(requests)], scored[len(requests) :])


class Judge(ABC):
    """A judge of (query, candidate) pairs. ``gecko_fret.judges.JUDGES`` lists the judges by name.

    One is made for every process that scores; models that it needs of its own are loaded in ``__init__``.

    A judge with a prompt of its own leaves ``PromptSet`` and its files alone, because their hash is part of existing
    folders. It keeps the prompt in its module, as a ``RelevanceBlock(...)`` or a subclass of ``PromptBlock`` (both in
    ``gecko_fret.prompting``), or in ``prompts/NAME.yaml``, read by ``load_prompt(NAME, RelevanceBlock)``, and returns
    the block's ``hash`` from ``fingerprint``.

    Attributes:
        name: its name in ``score.judges``, and its column in the scored parts.
        column: Arrow type of its column.
        uses_llm: whether it asks the scoring LLM.

    Args:
        setup: what the judge may use.
    """

    name: ClassVar[str]
    column: ClassVar[pa.DataType] = pa.float32()
    uses_llm: ClassVar[bool] = False

    def __init__(self, setup: JudgeSetup):
        self.setup = setup

    @abstractmethod
    def judge(self, batch: Batch) -> Sequence[Any]:
        """What goes into the column, for every pair of the batch in order."""

    @classmethod
    def value(cls, judgement: Any) -> float:
        """The number that candidates are ranked by, higher is better: the judgement itself by default."""
        return float(judgement)

    @classmethod  # noqa: B027 - most judges have nothing to check
    def check(cls, config: FretConfig) -> None:
        """Check the settings before anything is built.

        Raises:
            ConfigError: the judge cannot do what they ask for.
            ModelError: a library that it needs is not installed.
        """

    @classmethod
    def own_model(cls, config: FretConfig) -> tuple[str, str, str | None] | None:
        """A model that it alone loads: key of the section, name, device; None: it has none."""
        return None

    @classmethod
    def prompt_hashes(cls, config: FretConfig) -> dict[str, str]:
        """Hashes of the prompt files that it reads, by the key of the configuration that names them."""
        return {}

    @classmethod
    def passes(cls, config: ScoreConfig) -> int:
        """Forward passes of the scoring LLM for each pair where it has them for itself, for the cost of a build.

        Args:
            config: section ``score``.
        """
        return 0

    @classmethod
    def fingerprint(cls, config: FretConfig, models: Models) -> list[Any]:
        """What decides its judgements beyond the section ``score``, the scoring LLM and its prompts."""
        return []
