"""A build over a server on this machine that takes 50 ms to answer: how busy it is kept, and what faults cost.

    uv run python packages/gecko-fret/benchmarks/concurrency.py

The same build of 500 queries runs twice: over a server without faults, and over one that spoils one answer in five
(HTTP 500, 503 and 429, JSON that is cut off, an answer without choices, a connection that is closed). Both have to come
to the same bytes. Passages are embedded as bags of words and no judge is measured: the time is that of asking. Busy:
the requests that the server was answering, on average over a step's time, of those that the build may have in flight
(``llm.concurrency``).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import re
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import described, publish, table
from stand_ins import BagOfWords

from gecko_fret import Corpus, build_fret
from gecko_fret.config import parse_config
from gecko_fret.corpus import python_docs
from gecko_fret.models import Models

FAULTS = ["500", "503", "429", "cut", "empty", "closed"]
STEPS = ("write", "score")


class Server:
    """The chat API; what it answers depends on the request alone.

    Args:
        latency: seconds of an answer.
        share: of the answers that are spoilt.
    """

    def __init__(self, latency: float, share: float):
        self.latency, self.share = latency, share
        self.changes: list[tuple[float, int]] = []  # of the requests in flight
        self.seen: Counter[bytes] = Counter()
        self.spoilt = 0

    async def serve(self, ready: Any) -> None:
        """Serve until the process ends; ``ready`` is told the port."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        ready.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await self._request(reader, writer):
            pass
        writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; False: the connection ends."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        length = re.search(rb"content-length: *(\d+)", head.lower())
        content = await reader.readexactly(int(length[1])) if length else b""
        if head.startswith(b"GET"):
            report = {"changes": self.changes, "spoilt": self.spoilt}
            return await self._send(writer, 200, json.dumps(report).encode())
        self.changes.append((time.monotonic(), 1))
        answer = json.dumps(answer_to(json.loads(content))).encode()
        fault = self._fault(content)
        await asyncio.sleep(self.latency)
        self.changes.append((time.monotonic(), -1))
        if fault == "closed":
            return False
        if fault in ("500", "503", "429"):
            return await self._send(writer, int(fault), b"{}", b"Retry-After: 1\r\n" if fault == "429" else b"")
        return await self._send(writer, 200, {"cut": answer[:-9], "empty": b"{}"}.get(fault or "", answer))

    def _fault(self, content: bytes) -> str | None:
        """Whether and how this time of asking is spoilt, whenever it comes."""
        draw = hashlib.sha256(content + str(self.seen[content]).encode()).digest()
        self.seen[content] += 1
        if int.from_bytes(draw[:4]) >= self.share * 2**32:
            return None
        self.spoilt += 1
        return FAULTS[draw[4] % len(FAULTS)]

    @staticmethod
    async def _send(writer: asyncio.StreamWriter, status: int, content: bytes, headers: bytes = b"") -> bool:
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(content), headers, content))
        try:
            await writer.drain()
        except ConnectionError:
            return False
        return True


def answer_to(body: dict[str, Any]) -> dict[str, Any]:
    """A query of the passage's words, or yes or no with log-probabilities."""
    asked = body["messages"][-1]["content"]
    number = hashlib.sha256(asked.encode()).digest()[0] / 256
    choice: dict[str, Any] = {"finish_reason": "stop"}
    if body["max_tokens"] > 8:
        words = re.findall(r"[a-z]{4,}", asked.partition("\n")[0])
        text = "what about " + " ".join(words[:: max(1, len(words) // 6)][:6])
    else:
        text = "Yes" if number > 0.5 else "No"
        tops = [{"token": "Yes", "logprob": number - 1.5}, {"token": "No", "logprob": -0.5 - number}]
        choice["logprobs"] = {"content": [{"token": text, "logprob": -0.7, "top_logprobs": tops}]}
    choice["message"] = {"role": "assistant", "content": text}
    return {"choices": [choice], "usage": {"prompt_tokens": len(asked) // 4, "completion_tokens": 8}}


def run_server(latency: float, share: float, ready: Any) -> None:
    """The server's process."""
    asyncio.run(Server(latency, share).serve(ready))


@dataclass
class Times:
    """When each step began and ended, by its progress."""

    spans: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    running: tuple[str, float] | None = None

    def start(self, stage: str, total: int | None, done: int = 0, unit: str = "") -> None:
        self.finish()
        self.running = (stage, time.monotonic())

    def advance(self, count: int = 1, note: str = "") -> None:
        pass

    def finish(self) -> None:
        if self.running:
            stage, began = self.running
            self.spans.setdefault(stage, []).append((began, time.monotonic()))
            self.running = None


@dataclass
class Run:
    """What a build did: rows, seconds in all and by step, busy share by step, answers spoilt, files by name."""

    rows: int
    queries: int
    requests: int
    seconds: float
    steps: dict[str, float]
    busy: dict[str, float]
    busy_asking: float
    spoilt: int
    files: dict[str, str]


def one_build(corpus: Corpus, share: float, options: argparse.Namespace, out: Path) -> Run:
    """A build over a server of its own."""
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    process = context.Process(target=run_server, args=(options.latency, share, ready), daemon=True)
    process.start()
    port = ready.get(timeout=60)
    llm = {"backend": "openai", "api": "chat", "model": "m", "url": f"http://127.0.0.1:{port}/v1"}
    config = parse_config(
        {
            "llm": llm | {"concurrency": options.concurrency},
            "generate": {
                "seeds": options.queries,
                "attempts": 1,
                "max_copied": 1.0,
                "write_task": False,
                "part_size": options.part_size,
            },
            "retrieve": {"candidates": options.candidates, "part_size": options.part_size, "seed_top_k": None},
            "score": {"judges": ["similarity", "yes-no"]},
            "mine": {"fuse": "rrf"},
        }
    )
    times, began = Times(), time.monotonic()
    summary = build_fret(config, out, corpus=corpus, progress=times, models=Models(embedder=BagOfWords()))
    seconds = time.monotonic() - began
    report = asyncio.run(asked_for_report(port))
    process.terminate()
    process.join()
    spans = {step: times.spans.get(step, []) for step in STEPS}
    return Run(
        rows=summary.counts["rows"],
        queries=summary.counts["queries"],
        requests=len(report["changes"]) // 2,
        seconds=seconds,
        steps={step: sum(end - start for start, end in some) for step, some in spans.items()},
        busy={step: busy(report["changes"], some, options.concurrency) for step, some in spans.items()},
        busy_asking=busy(report["changes"], [span for some in spans.values() for span in some], options.concurrency),
        spoilt=report["spoilt"],
        files={
            path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(out.rglob("*.parquet"))
        },
    )


async def asked_for_report(port: int) -> Any:
    """What the server has seen."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    content = await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split()[0]))
    writer.close()
    return json.loads(content)


def busy(changes: list[tuple[float, int]], spans: list[tuple[float, float]], concurrency: int) -> float:
    """Mean number of requests in flight over the spans, of ``concurrency``."""
    area, in_flight, before = 0.0, 0, 0.0
    for at, change in sorted((at, change) for at, change in changes):
        area += in_flight * sum(max(0.0, min(at, end) - max(before, start)) for start, end in spans)
        in_flight, before = in_flight + change, at
    total = sum(end - start for start, end in spans)
    return area / (total * concurrency) if total else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--passages", type=int, default=1000)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--part-size", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--faults", type=float, default=0.2)
    parser.add_argument("--no-publish", action="store_true", help="print the result, and leave results/ alone")
    options = parser.parse_args()
    docs = python_docs()
    corpus = Corpus([docs[number] for number in range(min(options.passages, len(docs)))], name="python-docs")
    with tempfile.TemporaryDirectory() as folder:
        runs = {share: one_build(corpus, share, options, Path(folder, str(share))) for share in (0.0, options.faults)}
    plain, faulty = runs.values()
    rows: list[list[object]] = [
        [
            f"{share:.0%}",
            run.requests,
            run.spoilt,
            run.queries,
            run.rows,
            f"{run.seconds:.1f}",
            *(f"{run.steps[step]:.1f}: {run.busy[step]:.0%}" for step in STEPS),
            f"{sum(run.steps.values()):.1f}: {run.busy_asking:.0%}",
        ]
        for share, run in runs.items()
    ]
    same = plain.files == faulty.files
    asking = [sum(run.steps.values()) for run in (plain, faulty)]
    lines = [
        "# Concurrency and faults",
        "",
        f"{described('openai', 'pyarrow')}. {options.queries} queries over the chat API of a server on this machine "
        f"that answers after {options.latency * 1000:.0f} ms, {options.concurrency} requests in flight, parts of "
        f"{options.part_size} queries, {options.candidates} candidates, judge `yes-no`.",
        "",
        *table(
            [
                "faults",
                "requests",
                "spoilt",
                "queries",
                "rows",
                "all s",
                *(f"`{step}` s: busy" for step in (*STEPS, "both")),
            ],
            rows,
        ),
        "",
        f"Parts: {'the same bytes' if same else 'NOT THE SAME'}. Time with faults: "
        f"{faulty.seconds / plain.seconds:.2f} of that without, {asking[1] / asking[0]:.2f} in the steps that ask.",
    ]
    if options.no_publish:
        print("\n".join(lines))
    else:
        publish("concurrency", lines)
    if not same:
        raise SystemExit("faults changed the data")


if __name__ == "__main__":
    main()
