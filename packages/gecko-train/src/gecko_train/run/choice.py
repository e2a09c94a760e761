"""Which of several models is saved, by what is measured on the known items.

One number counts: the mean over the kinds of items of their nDCG, every kind counting the same. All of them are
between 0 and 1, so no kind needs a scale. Of models that stand as they are, the student and what pre-finetuning made of
it, the better one is taken. A share of the way to the end of training takes its place only where the 95% interval of
its lead leaves out zero. Of several that do, the one with the highest lower end of that interval is chosen: a longer
way makes the lead more variable, too. Of equal models the earlier one is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gecko_train.data.known_items import DrawnQuery, JudgedList, KnownItems

if TYPE_CHECKING:
    from gecko_core import Gecko

TITLES, QUERIES, LISTS, WORDS = KINDS = ("titles", "queries", "lists", "words")
_DIGITS = 6  # of what is kept and compared: below them machines differ
_CUT = 10


@dataclass(frozen=True)
class Measured:
    """A model's nDCG of every item, the mean over the dims.

    Attributes:
        kinds: kind to (n,) float64.
        units: kind to (n,) int, the title or row that an item comes from: a query and a list of one row are not
            independent.
    """

    kinds: Mapping[str, np.ndarray]
    units: Mapping[str, np.ndarray]

    @property
    def score(self) -> float:
        """The number that decides."""
        return round(float(np.mean([values.mean() for values in self.kinds.values()])), _DIGITS)

    def means(self) -> dict[str, float]:
        """The mean of each kind."""
        return {kind: round(float(values.mean()), _DIGITS) for kind, values in self.kinds.items()}

    def against(self, other: Measured) -> dict[str, list[float]]:
        """Differences to another model on the same items, with their paired standard errors.

        Returns:
            Each kind, and ``score``, to (difference, standard error). The error of a mean of n paired differences is
            their standard deviation / sqrt(n); that of the score adds up what each title or row adds to it.
        """
        found: dict[str, list[float]] = {}
        added: dict[int, float] = {}
        for kind, values in self.kinds.items():
            differences = values - other.kinds[kind]
            count = len(differences)
            parts = (differences - differences.mean()) / np.sqrt(count * (count - 1))  # their squares add up to error^2
            found[kind] = _rounded(differences.mean(), _length(parts))
            for unit, part in zip(self.units[kind].tolist(), parts / len(self.kinds), strict=True):
                added[unit] = added.get(unit, 0.0) + part
        found["score"] = _rounded(self.score - other.score, _length(list(added.values())))
        return found


def measure(model: Gecko, items: KnownItems, dims: Sequence[int]) -> Measured:
    """Measure the nDCG of every known item, the mean over ``dims``.

    Titles, queries and words: nDCG@10 with one right answer. Lists: nDCG of the whole list, gains being the judges'
    probabilities (or fused scores); lists that they find all alike are passed over. Of documents that the model finds
    equally near, the worse one comes first, so that a model that tells nothing apart gains nothing.

    Args:
        model: in evaluation mode; queries and documents get its own prompts.
        items: at least one.
        dims: Matryoshka prefixes.
    """
    kinds: dict[str, np.ndarray] = {}
    units: dict[str, np.ndarray] = {}
    if items.titles is not None:
        from gecko_eval.in_training import evaluate_retrieval

        scores = evaluate_retrieval(model, items.titles, list(dims))
        kinds[TITLES] = np.mean([of_dim.per_query["ndcg_at_10"] for of_dim in scores.values()], axis=0)
        units[TITLES] = -1 - np.arange(len(kinds[TITLES]))
    if items.documents:
        similarities = _similarities(model, items, dims)  # (dims, rows and words, documents)
        for kind, wanted, score in ((QUERIES, _is_query, _query_score), (LISTS, _is_list, _list_score)):
            chosen = [number for number, row in enumerate(items.rows) if wanted(row)]
            if len(chosen) > 1:  # one alone has no standard error
                kinds[kind] = np.array([_mean(score, items.rows[row], similarities[:, row]) for row in chosen])
                units[kind] = np.array(chosen)
        if items.words:
            of_words = np.moveaxis(similarities[:, len(items.rows) :], 1, 0)
            values = [_mean(_query_score, item, of_it) for item, of_it in zip(items.words, of_words, strict=True)]
            kinds[WORDS] = np.array(values)
            units[WORDS] = len(items.rows) + np.arange(len(values))
    return Measured({kind: values.round(_DIGITS) for kind, values in kinds.items()}, units)


def best_of(measured: Sequence[Measured], standing: int = 1) -> int:
    """Place of the model to save.

    Args:
        measured: of every model, first those that stand as they are, each trained from the one before; then those on
            the way from the last of them to the end of training.
        standing: how many stand as they are, at least one.
    """
    chosen = max(range(standing), key=lambda place: (measured[place].score, -place))
    leads = [_supported_lead(model, measured[chosen]) for model in measured[standing:]]
    if leads and max(leads) > 0:
        chosen = standing + leads.index(max(leads))
    return chosen


def _supported_lead(one: Measured, other: Measured) -> float:
    """Lower end of the 95% interval of the difference of two models' scores, by Student's t; -1 for a few items.

    Its degrees of freedom are those of the smallest kind, which counts as much as the others and whose error is known
    worst.
    """
    from gecko_eval.report import FEWEST, t_quantile

    if len({unit for units in one.units.values() for unit in units.tolist()}) < FEWEST:
        return -1.0
    difference, error = one.against(other)["score"]
    return round(difference - t_quantile(min(map(len, one.kinds.values())) - 1) * error, _DIGITS)


def numbers(measured: Measured) -> dict[str, float]:
    """For the metrics of training: the score, which decides on checkpoints, and the mean of each kind."""
    return {"score": measured.score, **{f"eval/{kind}": value for kind, value in measured.means().items()}}


def judge_checkpoints(items: KnownItems, dims: Sequence[int]) -> Callable[[int, Gecko], Mapping[str, float]]:
    """What the trainer calls before a checkpoint, see ``Trainer``'s ``on_checkpoint``."""

    def judge(step: int, model: Gecko) -> Mapping[str, float]:
        training = model.training
        model.eval()
        try:
            return numbers(measure(model, items, dims))
        finally:
            model.train(training)

    return judge


def choice_lines(record: Mapping[str, Any]) -> list[str]:
    """What was chosen and why, in plain words.

    Args:
        record: the result of step ``interpolate``.
    """
    base, share, saved = record["base"], record["share"], record["saved"]
    where = f"{share:.2f} of the way from the {base} model to the end of training ({record['method']})"
    what = f"the {saved} model, unchanged" if share == 0 else "the end of training" if share == 1 else where
    if record["by"] == "recipe":
        return [f"saved: {what}, as finetune.interpolate says"]
    if record["by"] == "nothing":
        return [f"saved: {what}; there are too few titles, FRet rows and passages to choose by"]
    rows = record["measured"]
    items: Mapping[str, int] = record["items"]
    where = f"on the known items ({', '.join(f'{number} {kind}' for kind, number in items.items())})"
    chosen = next(row for row in rows if (row["model"], row["share"]) == (saved, share))
    if share == 0:
        end = rows[-1]["against"][saved]
        by_kind = "; ".join(f"{kind} {_signed(end[kind])}" for kind in items)
        return [
            f"saved: {what}: no model on the way is better {where} beyond the noise, nDCG {chosen['score']:.3f}",
            f"the end of training against it: {_signed(end['score'])}; {by_kind}",
        ]
    gain, end = chosen["against"][base], rows[-1]["against"][base]
    leads = ", ".join(f"{_signed(lead['score'])} against the {name} model" for name, lead in chosen["against"].items())
    by_kind = "; ".join(f"{kind} {chosen[kind]:.3f}, {_signed(gain[kind])}" for kind in items)
    others = "" if share == 1 else f"; the end of training {_signed(end['score'])}"
    return [
        f"saved: {what}, {where}: nDCG {chosen['score']:.3f}, {leads}{others}",
        f"by kind: {by_kind}",
    ]


def _signed(difference: Sequence[float]) -> str:
    return "{:+.4f} (se {:.4f})".format(*difference)


def _similarities(model: Gecko, items: KnownItems, dims: Sequence[int]) -> np.ndarray:
    documents = model.encode_documents([d.text for d in items.documents], [d.title for d in items.documents])
    asked: list[JudgedList | DrawnQuery] = [*items.rows, *items.words]
    queries = model.encode([model.format_queries([item.query], item.task)[0] for item in asked])
    return np.stack([model.truncate(queries, dim) @ model.truncate(documents, dim).T for dim in dims])


def _is_query(row: JudgedList) -> bool:
    return row.answer is not None


def _is_list(row: JudgedList) -> bool:
    return len(set(row.gains)) > 1


def _mean(
    score: Callable[[Any, np.ndarray], float],
    item: JudgedList | DrawnQuery,
    similarities: np.ndarray,  # (dims, documents)
) -> float:
    return float(np.mean([score(item, of_dim) for of_dim in similarities]))


def _query_score(row: JudgedList | DrawnQuery, similarities: np.ndarray) -> float:
    rank = int((similarities >= similarities[row.answer]).sum())  # counts the answer itself, and ties before it
    return float(1 / np.log2(1 + rank)) if rank <= _CUT else 0.0


def _list_score(row: JudgedList, similarities: np.ndarray) -> float:
    gains = np.array(row.gains)
    order = np.lexsort((gains, -similarities[list(row.candidates)]))
    discount = 1 / np.log2(np.arange(2, len(gains) + 2))
    return float(gains[order] @ discount / (np.sort(gains)[::-1] @ discount))


def _length(parts: np.ndarray | list[float]) -> float:
    return float(np.sqrt(np.square(parts).sum()))


def _rounded(*values: Any) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]
