"""How many queries survive, by the form in which the prompt has the LLM answer: the quickstart's corpus and models.

uv run python packages/gecko-fret/benchmarks/answer_forms.py
"""

from __future__ import annotations

import argparse
from collections import Counter

from machine import described, publish, table

from gecko_core import Gecko
from gecko_core.search import top_k
from gecko_fret.config import parse_config
from gecko_fret.corpus import python_docs
from gecko_fret.llm import load_llm
from gecko_fret.llm.config import LLMConfig
from gecko_fret.prompting import load_prompts
from gecko_fret.steps.filter import Filter
from gecko_fret.steps.write import Write, sample_seeds

FORMS = {
    "two lines": (" {task}\nQuery: {query}", ["\n\n", "\nPassage:", "\nTask:"]),
    "one line, named": (" {task} | Query: {query}", ["\n"]),
    "one line": (" {task} | {query}", ["\n"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    llm, embedder = load_llm(LLMConfig()), Gecko.from_pretrained("all-minilm-l6-v2")
    corpus, config = python_docs(), parse_config({"generate": {"seeds": options.seeds, "attempts": 2}})
    documents, shipped = embedder.encode_documents(corpus.texts, corpus.titles), load_prompts("default")
    seeds = [corpus[row].id for row in sample_seeds(corpus, options.seeds, options.seed)]
    rows: list[list[object]] = []
    for name, (answer, stop) in FORMS.items():
        raw = shipped.model_dump()
        raw["generate"] |= {"answer": answer, "stop": stop}
        prompts = type(shipped).model_validate(raw)
        write = Write(corpus, [(llm, 1.0)], prompts, config.generate, options.seed)
        attempts = [attempt for at in range(0, len(seeds), 32) for attempt in write(seeds[at : at + 32]).rows]
        result = Filter(corpus, prompts, config.generate)(attempts)
        hits = top_k(embedder.encode_queries([query.query for query in result.rows]), documents, 4).rows
        hits_of_seeds = sum(corpus.row(query.seed_id) in near for query, near in zip(result.rows, hits, strict=True))
        reasons = Counter(reject.reason for reject in result.rejects).most_common()
        rejected = ", ".join(f"{reason} {count}" for reason, count in reasons)
        rows.append([name, len(attempts), len(result.rows), hits_of_seeds, rejected])
    publish(
        "answer_forms",
        [
            "# Answer forms",
            "",
            f"{described('torch', 'transformers')}. SmolLM2-135M-Instruct on {corpus.name}, seed {options.seed}.",
            "",
            *table(["form", "attempts", "accepted", "seed in the top 4", "rejected"], rows),
        ],
    )


if __name__ == "__main__":
    main()
