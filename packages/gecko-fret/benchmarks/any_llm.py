"""One model over several servers and APIs: how far the judges' values are from those of the transformers backend.

    uv run python packages/gecko-fret/benchmarks/any_llm.py \
        --server llama.cpp=http://127.0.0.1:8080/v1=smollm2 --server vLLM=http://127.0.0.1:8000/v1=smollm2

Every server has to serve the packaged SmolLM2-135M-Instruct. The same 200 pairs, titles of Python's documentation with
ten neighbours each, are judged by ``yes-no`` in every way that a server allows: log-probabilities over completions and
over chat, the likeliest five tokens alone, sampled answers; and ordered by ``listwise``. What is compared
with: transformers on the same prompt, as text or in the model's chat template.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from machine import described, publish, table
from scipy.stats import spearmanr

from gecko_fret.config import FretConfig, LLMConfig
from gecko_fret.corpus.load import python_docs
from gecko_fret.corpus.passages import Corpus
from gecko_fret.judges import JUDGES, Batch, JudgeSetup, Pair
from gecko_fret.llm import load_llm
from gecko_fret.llm.openai import OpenAILLM, cut_by_characters
from gecko_fret.llm.protocol import LLM, ScoreRequest
from gecko_fret.models import Models, load_embedder
from gecko_fret.prompting import load_prompts

CANDIDATES = 10


class AsServed:
    """The transformers backend on the text that a server without a tokenizer here gets, tokenised as one.

    Args:
        llm: the backend.
        chat: whether the text is the model's chat template's.
    """

    def __init__(self, llm: LLM, *, chat: bool):
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
    parser.add_argument("--server", action="append", default=[], help="NAME=URL=MODEL; several are compared")
    parser.add_argument("--titles", type=int, default=20)
    parser.add_argument("--samples", type=int, nargs="*", default=[8, 32])
    parser.add_argument("--sampled", nargs="*", help="servers that are asked for samples; default: all")
    options = parser.parse_args()
    corpus = python_docs()
    pairs = known_pairs(corpus, options.titles)
    own = load_llm(LLMConfig(dtype="float32"))
    reference = {
        "completions": judged("yes-no", pairs, corpus, AsServed(own, chat=False)),
        "chat": judged("yes-no", pairs, corpus, AsServed(own, chat=True)),
    }
    in_parts = judged("yes-no", pairs, corpus, own)
    hit = {way: top_share(pairs, values) for way, values in reference.items()}
    rows: list[list[object]] = [
        [f"transformers, {way}", "log-probabilities of both labels", "1", f"{hit[way]:.2f}", ""] for way in reference
    ]
    rows.append(
        [
            "transformers, completions",
            "log-probabilities, prompt cut and tokenised as in a build",
            correlation(pairs, in_parts, reference["completions"]),
            f"{top_share(pairs, in_parts):.2f}",
            "",
        ]
    )
    ordered = judged("listwise", pairs, corpus, AsServed(own, chat=False))
    rows.append(
        [
            "transformers, completions",
            "listwise",
            correlation(pairs, ordered, reference["completions"]),
            f"{top_share(pairs, ordered):.2f}",
            "",
        ]
    )
    for server in options.server:
        name, url, model = server.split("=")
        # vLLM ends at a request with a seed where it runs on a CPU.
        config = LLMConfig(backend="openai", model=model, url=url, timeout_s=300, send_seed=False)
        counts = options.samples if options.sampled is None or name in options.sampled else []
        for row in ways(name, config, pairs, corpus, reference, counts):
            print(*row, sep=" | ", flush=True)
            rows.append(row)
    header = ["server, API", "way", "rank correlation", "own passage first", "bounded"]
    lines = [
        "# One LLM over several servers",
        "",
        f"{described('openai', 'transformers')}. SmolLM2-135M-Instruct; {options.titles} titles of Python's "
        f"documentation with {CANDIDATES} neighbours each, {len(pairs)} pairs.",
        "",
        "Rank correlation (Spearman, mean over the titles) with the transformers backend in fp32 on the same prompt: "
        "as text for completions, in the chat template for chat, passages cut by characters, each tokenised as one. (A "
        "build that knows the tokenizer, here or by llm.tokenizer, cuts passages by tokens, and tokenises a prompt in "
        "parts, so that what several prompts begin with has the same tokens in all of them; between two parts a line "
        "break can then be another token.) Own passage first: share of the titles. "
        "Bounded: requests of which a label was not shown.",
        "",
        *table(header, rows),
    ]
    publish("any_llm", lines)


def ways(
    name: str,
    config: LLMConfig,
    pairs: Sequence[Pair],
    corpus: Corpus,
    reference: dict[str, list[float]],
    counts: Sequence[int],
) -> Iterator[list[object]]:
    """Every way in which a server can be asked."""
    for api in ("completions", "chat"):
        llm = OpenAILLM(config.model_copy(update={"api": api}))
        can = llm.capabilities
        asked = [(f"{can.alternatives} likeliest tokens" + (", others looked up" if can.echo else ""), can, config)]
        if can.alternatives > 5:
            asked.append(("5 likeliest tokens", replace(can, alternatives=5, echo=False), config))
        for samples in counts:
            without = replace(can, alternatives=0, echo=False)
            asked.append((f"{samples} samples", without, config.model_copy(update={"samples": samples})))
        for way, known, settings in asked:
            one = OpenAILLM(settings.model_copy(update={"api": api}), capabilities=known)
            values = judged("yes-no", pairs, corpus, one)
            bounded = one.usage.labels_bounded or ""
            yield [
                f"{name}, {api}",
                way,
                correlation(pairs, values, reference[api]),
                f"{top_share(pairs, values):.2f}",
                bounded,
            ]
            one.close()
        values = judged("listwise", pairs, corpus, llm)
        yield [
            f"{name}, {api}",
            "listwise",
            correlation(pairs, values, reference[api]),
            f"{top_share(pairs, values):.2f}",
            "",
        ]
        llm.close()


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
