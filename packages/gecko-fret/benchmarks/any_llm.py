"""One model over several servers and APIs: how far the judges' values are from those of the transformers backend.

    uv run python packages/gecko-fret/benchmarks/any_llm.py --work /tmp/any-llm \
        --server llama.cpp=http://127.0.0.1:8080/v1=smollm2 --server vLLM=http://127.0.0.1:8000/v1=smollm2

Every server has to serve the packaged SmolLM2-135M-Instruct. The same 200 pairs, titles of Python's documentation with
ten neighbours each, are judged by ``yes-no`` in every way that a server allows: log-probabilities over completions and
over chat, the likeliest five tokens alone, sampled answers; and ordered by ``listwise``. What is compared
with: transformers on the same prompt, as text or in the model's chat template.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from machine import described, publish, table
from scipy.stats import spearmanr

from gecko_core.io import read_json, write_json
from gecko_fret.config import FretConfig, LLMConfig
from gecko_fret.corpus.load import python_docs
from gecko_fret.corpus.passages import Corpus
from gecko_fret.judges import JUDGES, Batch, JudgeSetup, Pair
from gecko_fret.llm.openai import OpenAILLM, cut_by_characters
from gecko_fret.llm.protocol import LLM, ScoreRequest
from gecko_fret.llm.transformers import TransformersLLM
from gecko_fret.models import Models, load_embedder
from gecko_fret.prompting import load_prompts

CANDIDATES = 10


class AsServed:
    """The transformers backend on the text that a server without a tokenizer here gets, tokenised as one.

    Args:
        llm: the backend.
        chat: whether the text is the model's chat template's.
    """

    def __init__(self, llm: TransformersLLM, *, chat: bool):
        self._llm, self._chat = llm, chat

    def __getattr__(self, name: str):
        return getattr(self._llm, name)

    def truncate(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        return cut_by_characters(texts, max_tokens)

    def score(self, requests, labels=(), *, blocks=False):
        if self._chat:
            texts = ["".join(self._llm.chat(request.dialogue)) for request in requests]
            labels = [label.strip() for label in labels]
        else:
            texts = [request.prefix + request.context + request.continuation + request.tail for request in requests]
        return self._llm.score([ScoreRequest("", text) for text in texts], labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the values; a run goes on from it")
    parser.add_argument("--server", action="append", default=[], help="NAME=URL=MODEL; several are compared")
    parser.add_argument("--titles", type=int, default=20)
    parser.add_argument("--samples", type=int, nargs="*", default=[8, 32])
    parser.add_argument("--chat-samples", type=int, nargs="*", help="over chat; default: the same")
    parser.add_argument("--sampled", nargs="*", help="servers that are asked for samples; default: all")
    options = parser.parse_args()
    bench = Bench(options.work / str(options.titles), options.titles)
    bench.here()
    for server in options.server:
        name, url, model = server.split("=")
        # vLLM ends at a request with a seed where it runs on a CPU.
        config = LLMConfig(backend="openai", model=model, url=url, timeout_s=300, send_seed=False)
        over_chat = options.samples if options.chat_samples is None else options.chat_samples
        counts = {"completions": options.samples, "chat": over_chat}
        bench.served(name, config, counts if options.sampled is None or name in options.sampled else {})
    lines = [
        "# One LLM over several servers",
        "",
        f"{described('openai', 'transformers')}. SmolLM2-135M-Instruct; {options.titles} titles of Python's "
        f"documentation with {CANDIDATES} neighbours each, {len(bench.pairs)} pairs.",
        "",
        "Rank correlation (Spearman, mean over the titles) with the transformers backend in fp32 on the same prompt: "
        "as text for completions, in the chat template for chat, passages cut by characters, each tokenised as one. (A "
        "build that knows the tokenizer, here or by llm.tokenizer, cuts passages by tokens, and tokenises a prompt in "
        "parts, so that what several prompts begin with has the same tokens in all of them; between two parts a line "
        "break can then be another token.) Own passage first: share of the titles. "
        "Bounded: requests of which a label was not shown.",
        "",
        *table(["server, API", "way", "rank correlation", "own passage first", "bounded"], bench.rows),
    ]
    publish("any_llm", lines)


class Bench:
    """The pairs, and a row of the table for every way in which they were judged.

    Args:
        work: folder of the values.
        titles: how many.
    """

    def __init__(self, work: Path, titles: int):
        self._work, self._corpus = work, python_docs()
        self.pairs = known_pairs(self._corpus, titles)
        self.rows: list[list[object]] = []
        self._reference: dict[str, list[float]] = {}

    def here(self) -> None:
        """The transformers backend."""
        own = lru_cache(lambda: TransformersLLM.load(LLMConfig(dtype="float32")))
        for api in ("completions", "chat"):
            served = partial(lambda chat: AsServed(own(), chat=chat), api == "chat")
            values, _ = self._judged("transformers", api, "log-probabilities of both labels", "yes-no", served)
            self._reference[api] = values
            self._row("transformers", api, "log-probabilities of both labels", values)
        name, api = "transformers", "completions"
        way = "log-probabilities, prompt cut and tokenised as in a build"
        self._row(name, api, way, self._judged(name, api, way, "yes-no", own)[0])
        listed, _ = self._judged(name, api, "listwise", "listwise", lambda: AsServed(own(), chat=False))
        self._row(name, api, "listwise", listed)

    def served(self, name: str, config: LLMConfig, counts: Mapping[str, Sequence[int]]) -> None:
        """Every way in which a server can be asked."""
        for api in ("completions", "chat"):
            asked = config.model_copy(update={"api": api})
            llm = OpenAILLM(asked)
            can = llm.capabilities
            ways = [(f"{can.alternatives} likeliest tokens" + (", others looked up" if can.echo else ""), can, asked)]
            if can.alternatives > 5:
                ways.append(("5 likeliest tokens", replace(can, alternatives=5, echo=False), asked))
            for samples in counts.get(api, ()):
                without = replace(can, alternatives=0, echo=False)
                ways.append((f"{samples} samples", without, asked.model_copy(update={"samples": samples})))
            for way, known, settings in ways:
                one = partial(OpenAILLM, settings, capabilities=known)
                values, bounded = self._judged(name, api, way, "yes-no", one)
                self._row(name, api, way, values, bounded)
            self._row(name, api, "listwise", self._judged(name, api, "listwise", "listwise", lambda llm=llm: llm)[0])
            llm.close()

    def _judged(self, name: str, api: str, way: str, judge: str, load: Callable[[], LLM]) -> tuple[list[float], int]:
        """Values of all pairs, and how many requests were bounded; kept in the work folder."""
        path = self._work / f"{name} {api} {way}.json".replace(" ", "-").replace(",", "")
        if not path.exists():
            llm = load()
            values = judged(judge, self.pairs, self._corpus, llm)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"values": list(map(float, values)), "bounded": llm.usage.labels_bounded})
            if isinstance(llm, OpenAILLM):
                llm.close()
        found = read_json(path)
        return found["values"], found["bounded"]

    def _row(self, name: str, api: str, way: str, values: Sequence[float], bounded: int = 0) -> None:
        expected = self._reference[api]
        same = "1" if values is expected else correlation(self.pairs, values, expected)
        self.rows.append([f"{name}, {api}", way, same, f"{top_share(self.pairs, values):.2f}", bounded or ""])
        print(*self.rows[-1], sep=" | ", flush=True)


def known_pairs(corpus: Corpus, titles: int) -> list[Pair]:
    """Titles with their nearest passages, shown without titles; the own one is always among them."""
    chosen = [number for number in range(len(corpus)) if corpus[number].title][:: max(1, len(corpus) // 400)]
    embedder = load_embedder(FretConfig().embedder)
    passages = [corpus[number] for number in chosen]
    texts = embedder.encode_documents([passage.text for passage in passages])
    queries = embedder.encode_queries([passage.title for passage in passages[:titles]])
    pairs = []
    for row, similarities in enumerate(queries @ texts.T):
        nearest = [int(place) for place in np.argsort(-similarities)[:CANDIDATES]]
        if row not in nearest:
            nearest[-1] = row
        for place in nearest:
            passage = replace(passages[place], title=None)
            pairs.append(
                Pair(passages[row].id, "search result", passages[row].title or "", passage, float(similarities[place]))
            )
    return pairs


def judged(name: str, pairs: Sequence[Pair], corpus: Corpus, llm: LLM) -> list[float]:
    settings = {"llm": {"model": "given"}, "score": {"judges": [name], "calibrate": False}}
    setup = JudgeSetup(FretConfig.model_validate(settings), Models(llms={"given": llm}), corpus)
    return list(JUDGES[name](setup).judge(Batch(pairs, setup, load_prompts("default"))))


def groups(pairs: Sequence[Pair]) -> list[slice]:
    return [slice(start, start + CANDIDATES) for start in range(0, len(pairs), CANDIDATES)]


def correlation(pairs: Sequence[Pair], values: Sequence[float], expected: Sequence[float]) -> str:
    found = [spearmanr(values[part], expected[part]).statistic for part in groups(pairs)]
    return f"{np.nanmean(found):.3f}"


def top_share(pairs: Sequence[Pair], values: Sequence[float]) -> float:
    """Share of the titles whose own passage has the highest value; of equal ones a part of it."""
    shares = []
    for part in groups(pairs):
        most = max(values[part])
        best = [
            pair.passage.id == pair.query_id
            for pair, value in zip(pairs[part], values[part], strict=True)
            if value == most
        ]
        shares.append(sum(best) / len(best))
    return float(np.mean(shares))


if __name__ == "__main__":
    main()
