"""What the experiments have in common: judged sets, kept results, tables, and where they are published."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import gecko_core
import gecko_eval
import gecko_train.run
from gecko_core.bars import choose_bars
from gecko_core.errors import DataError
from gecko_core.io import read_json, write_json, write_text
from gecko_core.randomness import generator
from gecko_core.threads import choose_waiting
from gecko_fret.corpus import Corpus, Passage, python_docs
from gecko_train.config import parse_recipe

# Before torch is imported: names of gecko_core that need it import it when they are asked for.
choose_waiting()
choose_bars()

RESULTS = Path(__file__).parents[1] / "docs" / "results"
DOCS = "python-docs"
SHORT = 50  # words of a passage in the smallest runs
START = "zero-shot"
#: Of the option --part.
PART = "passages of a part that is written, and an eighth of the queries of one that is judged; a GPU wants more"
#: Tokens of a pass in training whose activations fit a GPU of 40 GB or more: nothing is then computed twice.
GPU_TOKENS = 131_072


@dataclass(frozen=True)
class Judged:
    """A judged set, its passages, and queries of its users that nobody has answered (those of its train split)."""

    name: str
    data: gecko_eval.RetrievalSet
    corpus: Corpus
    log: list[str]


def arguments(doc: str | None, sets: Sequence[str]) -> argparse.ArgumentParser:
    """The options that every experiment has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of what takes long; a run goes on from it")
    parser.add_argument("--sets", nargs="+", default=list(sets), help="BEIR folders, or below GECKO_DATA_DIR")
    parser.add_argument("--queries", type=int, default=0, help="judged queries of each set; 0: all")
    parser.add_argument("--small", action="store_true", help="the smallest run that does everything; implies the next")
    parser.add_argument("--no-publish", action="store_true", help="print the result, and leave docs/results alone")
    return parser


def parsed(parser: argparse.ArgumentParser, small: Mapping[str, Any]) -> argparse.Namespace:
    """The options given; with ``--small`` these values instead, on a set that needs no data.

    Args:
        parser: see ``arguments``.
        small: option to value.
    """
    given = parser.parse_args()
    if given.small:
        for name, value in {"sets": [f"{DOCS}-120"], "queries": 20, "no_publish": True, **small}.items():
            setattr(given, name, value)
    return given


def options_of(given: argparse.Namespace) -> dict[str, str]:
    """The options that decide a result; not where it is kept, nor where models and sets lie."""
    kept = {key: value for key, value in vars(given).items() if key not in ("work", "small", "no_publish")}
    return {key: without_folders(str(value)) for key, value in kept.items()}


def without_folders(text: str) -> str:
    """``/models/mine`` as ``mine``: where a model or a set lies on one machine says nothing to readers elsewhere."""
    return re.sub(r"(?<![^\s:,'\"`])/(?:[^/\s:,'\"`]+/)+", "", text)


def earlier(path: Path, raw: Mapping[str, Any], free: Iterable[str] = (), of: str = "sets") -> dict[str, Any]:
    """The sets of a result that is there, where it was made with the same options.

    Args:
        path: its JSON.
        raw: the new result.
        free: options that may differ, beside the names of the sets.
        of: what the result has instead of sets.
    """
    before = read_json(path) if path.exists() else {"options": {}, of: {}}
    keys = raw["options"].keys() - {of, *free}
    same = all(before["options"].get(key) == raw["options"][key] for key in keys)
    return dict(before[of]) if same else {}


def judged_set(name: str, queries: int = 0) -> Judged:
    """A BEIR folder, rows of questions with their documents, or ``python-docs``: titles as queries, and the
    interpreter's documentation without them.

    ``python-docs-120`` has so many of its passages, of each its first words: it is what the smallest runs take. A
    folder without a corpus has a ``train.jsonl.gz``, each row with a ``question`` and lists of texts: ``gold_doc``,
    which answer it, and ``other_doc``, which were found for it and are not judged; all of them are the corpus.

    Args:
        name: folder.
        queries: most judged queries, drawn; 0: all.
    """
    if name.startswith(DOCS):
        return _python_docs(queries or 100, int(name.removeprefix(DOCS).strip("-") or 0))
    rows = Path(os.environ.get("GECKO_DATA_DIR", "")) / name / "train.jsonl.gz"
    if rows.exists() and not list(rows.parent.glob("corpus.jsonl*")):
        return _of_documents(name, rows, queries)
    data = gecko_eval.load_beir(name, unjudged="drop")
    titles = data.titles or [None] * len(data.docs)
    passages = [Passage(i, t, d) for i, t, d in zip(data.doc_ids, titles, data.docs, strict=True) if d.strip()]
    return Judged(name, _drawn(data, queries), Corpus(passages, name=name), _log(name, set(data.queries)))


def reduced(of: Judged, documents: int) -> Judged:
    """The set with a smaller corpus: the documents judged for its queries, and drawn others.

    Queries are taken in a drawn order, each as long as its documents still fit: of a set with many judged documents a
    query, those with fewer are favoured.

    Args:
        of: the set.
        documents: size of the smaller corpus; 0: all.
    """
    if not documents or documents >= len(of.corpus):
        return of
    judged = [[name for name, grade in told.items() if grade > 0 and name in of.corpus] for told in of.data.judgements]
    taken: set[str] = set()
    rows = []
    for row in generator("queries that fit", 0).permutation(len(judged)).tolist():
        if len(taken | set(judged[row])) <= documents:
            taken |= set(judged[row])
            rows.append(row)
    rows.sort()
    rest = [name for name in of.corpus.ids if name not in taken]
    order = generator("documents", 0).permutation(len(rest)).tolist()
    others = [rest[place] for place in order[: documents - len(taken)]]
    corpus = of.corpus.subset([*(name for row in rows for name in judged[row]), *others])
    return replace(of, data=of_rows(of.data, rows), corpus=corpus)


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What is in a JSON file; where there is none, it is made and kept."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, make())
    return read_json(path)


def scores_of(model: Any, data: gecko_eval.RetrievalSet) -> list[float]:
    """NDCG@10 of every query, in percent."""
    return scores_at(model, data, [model.dim])[str(model.dim)]


def scores_at(model: Any, data: gecko_eval.RetrievalSet, dims: Sequence[int]) -> dict[str, list[float]]:
    """NDCG@10 of every query by the width that vectors are cut to, in percent."""
    found = gecko_eval.evaluate_retrieval(model, data, list(dims))
    return {str(dim): [round(100 * float(value), 4) for value in found[dim].per_query["ndcg_at_10"]] for dim in dims}


def finetuned(
    out: Path,
    student: str,
    stage: Mapping[str, Any],
    clock: Clock,
    *,
    name: str,
    seed: int,
    dims: Sequence[int] = (),
    corpus: Path | None = None,
    **trainer: Any,
) -> Path:
    """The folder of a model that was fine-tuned, trained where it is missing; what training says is in OUT.log.

    Args:
        out: folder of the run.
        student: what it starts from.
        stage: the section ``finetune`` of a recipe, without ``trainer``.
        clock: counts it.
        name: of the run.
        seed: of the training.
        dims: widths that are trained; default: the student's whole width.
        corpus: file of the run's corpus, for a run that reads one; titles are then among what the model is chosen by.
        trainer: settings of the trainer.
    """
    import torch

    if (out / "model").exists():
        return out / "model"
    budget = {"micro_batch_tokens": GPU_TOKENS} if torch.cuda.is_available() else {}
    recipe = {
        "name": name,
        "output": str(out),
        "seed": seed,
        "student": {"model": student, "dims": list(dims) or [gecko_core.Gecko.from_pretrained(student).dim]},
        "finetune": {**stage, "trainer": {"max_seq_length": 128, "checkpoint_every": 0, **budget, **trainer}},
    }
    if corpus:  # a whole run, whose own test is not looked at
        test = {"queries": 2, "max_documents": 10}
        recipe |= {"corpus": {"path": str(corpus)}, "prefinetune": {"enabled": False}, "evaluation": test}
    out.parent.mkdir(parents=True, exist_ok=True)
    with (out.parent / f"{out.name}.log").open("a", encoding="utf-8") as log:
        console = Console(file=log, width=120)
        run, parsed = gecko_train.run, parse_recipe(recipe)

        def work() -> None:
            if corpus:
                run.run_recipe(parsed, console)
            else:
                run.run_stage(parsed, "finetune", console)

        clock.run(f"train {name}", work)
    return out / "model"


def ranked_scores(ranked: Sequence[list[str]], answers: Sequence[Mapping[str, int]]) -> list[float]:
    """NDCG@10 of every ranking, in percent."""
    from gecko_eval.metrics import ranking_metrics

    return [round(100 * float(value), 4) for value in ranking_metrics(ranked, answers)["ndcg_at_10"]]


def mean(values: Sequence[float]) -> str:
    """A mean as tables show it."""
    return f"{np.mean(values):.1f}"


def change(values: Sequence[float], base: Sequence[float]) -> str:
    """A paired difference with its 95% interval over the queries."""
    if list(values) == list(base):
        return "+0.0"
    found = gecko_eval.paired_bootstrap(np.asarray(values), np.asarray(base))
    mark = "**" if found.significant else ""
    return f"{mark}{found.difference:+.1f}{mark} [{found.low:+.1f}, {found.high:+.1f}]"


def change_of_model(values: Sequence[float], start: Sequence[float]) -> str:
    """The change of a model; equal in every query to the last digit is one that was saved as it was."""
    return "start kept" if list(values) == list(start) else change(values, start)


def start_of(found: Mapping[str, Any], way: str) -> Any:
    """What the scores of a way compare with: the start model's of the same run."""
    return found.get(f"{START}, {way}", found[START])


def change_of_mean(values: Sequence[Sequence[float]], base: Sequence[Sequence[float]]) -> str:
    """The mean over sets of paired differences; queries are drawn anew within each set for its 95% interval."""
    differences = [np.asarray(a) - np.asarray(b) for a, b in zip(values, base, strict=True)]
    draws = generator("mean over sets", 0)
    means = [
        [of_set[draws.integers(0, len(of_set), len(of_set))].mean() for of_set in differences] for _ in range(2000)
    ]
    low, high = np.quantile(np.mean(means, axis=1), [0.025, 0.975])
    return f"{np.mean([of_set.mean() for of_set in differences]):+.2f} [{low:+.2f}, {high:+.2f}]"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def described(*packages: str) -> str:
    """Date, processor, threads, Python and the versions of ``packages``, in one line."""
    import torch

    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return (
        f"{date.today().isoformat()}; {gpu}{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch "
        "threads; "
        f"Python {platform.python_version()}, {versions}"
    )


def publish(name: str, lines: Sequence[str], raw: Any, given: argparse.Namespace, figure: Any = None) -> None:
    """Print a result; keep it in docs/results as NAME.md, its numbers as NAME.json, its plot as NAME.png.

    Args:
        name: of the experiment.
        lines: Markdown.
        raw: numbers behind it.
        given: the options.
        figure: a ``matplotlib.figure.Figure``.
    """
    text = without_folders("\n".join(lines) + "\n")
    print(text, end="")
    folder = given.work if given.no_publish else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    if figure is not None:
        figure.savefig(folder / f"{name}.png", dpi=120)
    write_json(folder / f"{name}.json", raw)
    write_text(folder / f"{name}.md", text)


class Clock:
    """Seconds of each part of a run, kept with it, so that a run that was stopped knows the time of all parts."""

    def __init__(self, path: Path):
        self._path = path
        self.seconds: dict[str, float] = read_json(path) if path.exists() else {}

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """Do it, and add its seconds to those that ``name`` has taken before."""
        began = time.monotonic()
        try:
            return work()
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 1)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, self.seconds)


def _drawn(data: gecko_eval.RetrievalSet, queries: int) -> gecko_eval.RetrievalSet:
    if not queries or queries >= len(data.queries):
        return data
    return of_rows(data, np.sort(generator("judged queries", 0).permutation(len(data.queries))[:queries]).tolist())


def of_rows(data: gecko_eval.RetrievalSet, rows: Sequence[int]) -> gecko_eval.RetrievalSet:
    """The set with the queries of these rows alone."""
    ids = [data.query_ids[row] for row in rows]
    return gecko_eval.RetrievalSet(
        name=data.name, query_ids=ids, queries=[data.queries[row] for row in rows], doc_ids=data.doc_ids,
        docs=data.docs, titles=data.titles, qrels={name: data.qrels[name] for name in ids}, task=data.task,
    )  # fmt: skip


def _of_documents(name: str, path: Path, queries: int) -> Judged:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    texts = dict.fromkeys(text for row in rows for text in (*row["gold_doc"], *row["other_doc"]) if text.strip())
    ids = {text: f"d{number}" for number, text in enumerate(texts)}
    data = gecko_eval.RetrievalSet(
        name=name,
        query_ids=[f"q{number}" for number in range(len(rows))],
        queries=[row["question"] for row in rows],
        doc_ids=list(ids.values()),
        docs=list(ids),
        titles=None,
        qrels={f"q{number}": {ids[text]: 1 for text in row["gold_doc"]} for number, row in enumerate(rows)},
        task="question answering",
    )
    passages = [Passage(told, None, text) for text, told in ids.items()]
    return Judged(name, _drawn(data, queries), Corpus(passages, name=name), [])


def _log(name: str, judged: set[str]) -> list[str]:
    """Queries of the train split, without their answers and without any that is judged in the test."""
    try:
        train = gecko_eval.load_beir(name, "train", unjudged="drop")
    except DataError:
        return []
    return [query for query in dict.fromkeys(train.queries) if query not in judged]


def _python_docs(queries: int, most: int) -> Judged:
    corpus = python_docs()
    if most:
        rows = generator("passages", 0).permutation(len(corpus))[:most].tolist()
        first = [replace(corpus[row], text=" ".join(corpus[row].text.split()[:SHORT])) for row in sorted(rows)]
        corpus = Corpus(first, name=DOCS)
    pairs = corpus.pairs()
    chosen = [pairs[row] for row in generator("judged titles", 0).permutation(len(pairs)).tolist()]
    asked = [(title, passage) for title, passage in chosen if corpus.get(passage.id).title][:queries]
    hidden = {passage.id for _, passage in asked}
    passages = [Passage(p.id, None if p.id in hidden else p.title, p.text) for p in corpus]
    data = gecko_eval.RetrievalSet(
        name=DOCS,
        query_ids=[f"q{place}" for place in range(len(asked))],
        queries=[title for title, _ in asked],
        doc_ids=[p.id for p in passages],
        docs=[p.text for p in passages],
        titles=[p.title or "" for p in passages],
        qrels={f"q{place}": {passage.id: 1} for place, (_, passage) in enumerate(asked)},
        task="search result",
    )
    return Judged(DOCS, data, Corpus(passages, name=DOCS), [])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
