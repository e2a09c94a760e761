"""`prefetch`, then `--offline`, against a hub of our own: the same requests as to the real one, over HTTP.

No test machine can count on the hub, so a small server speaks its protocol (dataset info, trees, files with commit and
ETag) and everything else is real: the command line, mteb's task classes, `datasets`, `huggingface_hub` and its caches.
Several processes that each import mteb take their time: run with `-m slow`.
"""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Hub(http.server.ThreadingHTTPServer):
    """Serves ``root/<namespace>/<name>/`` as data sets; every revision is the one there is."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.root = root
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
        self.answer()

    def answer(self, body=True):
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.asked.append(path)
        parts = path.split("/")
        if parts[:2] == ["api", "datasets"] and len(parts) >= 4:
            return self.api("/".join(parts[2:4]), parts[4:], body)
        if parts[0] == "datasets" and parts[3:4] == ["resolve"]:
            return self.file("/".join(parts[1:3]), parts[4], "/".join(parts[5:]), body)
        return self.missing("RepoNotFound", body)

    def api(self, name, rest, body):
        folder = self.server.root / name
        if not folder.is_dir():
            return self.missing("RepoNotFound", body)
        files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        sha = rest[1] if len(rest) > 1 and len(rest[1]) == 40 else "0" * 40
        if rest[:1] == ["tree"]:
            under = "/".join(rest[2:])
            inside = [f for f in files if not under or f.startswith(f"{under}/")]
            folders = {Path(f).parent.as_posix() for f in inside} - {".", under}
            found = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": f} for f in sorted(folders)]
            if inside:
                return self.send_json(found + [self.entry(folder, f) for f in inside], body)
            return self.missing("EntryNotFound", body)
        if rest[:1] == ["paths-info"]:
            return self.send_json([self.entry(folder, f) for f in files if f in self.body["paths"]], body)
        info = {"_id": "0" * 24, "id": name, "sha": sha, "private": False, "gated": False, "disabled": False}
        info |= {"tags": [], "downloads": 0, "likes": 0, "siblings": [{"rfilename": f} for f in files]}
        return self.send_json(info, body)

    def entry(self, folder, file):
        content = (folder / file).read_bytes()
        return {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": file}

    def file(self, name, revision, file, body):
        path = self.server.root / name / file
        if not path.is_file():
            return self.missing("EntryNotFound", body)
        content = path.read_bytes()
        headers = {"X-Repo-Commit": revision, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        return self.send(200, content, headers, body)

    def missing(self, code, body):
        self.send(404, b"{}", {"X-Error-Code": code, "X-Error-Message": code}, body)

    def send_json(self, content, body):
        self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"}, body)

    def send(self, status, content, headers, body):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


CARD = """---
configs:
- config_name: corpus
  data_files: [{split: corpus, path: corpus.jsonl}]
- config_name: queries
  data_files: [{split: queries, path: queries.jsonl}]
- config_name: default
  data_files: [{split: test, path: qrels/test.jsonl}]
---
"""


@pytest.fixture
def hub(tmp_path, write_jsonl):
    """STSBenchmark and SciFact as they lie on the real hub, smaller."""
    root = tmp_path / "hub" / "mteb"
    words = ["amber", "birch", "cedar", "delta", "ember", "frost", "grove", "heron"]
    pairs = [
        {"sentence1": f"{a} {b}", "sentence2": f"{a} {c}", "score": 5.0 * (b == c), "genre": "x", "year": "y"}
        for a in words
        for b, c in zip(words, words[1:] + words[1:2], strict=True)
    ]
    for split in ("train", "validation", "test"):
        write_jsonl(root / "stsbenchmark-sts" / f"{split}.jsonl", pairs)
    write_jsonl(root / "scifact" / "corpus.jsonl", [{"_id": w, "title": w, "text": f"all about {w}"} for w in words])
    write_jsonl(root / "scifact" / "queries.jsonl", [{"_id": f"q{w}", "text": w} for w in words])
    qrels = [{"query-id": f"q{w}", "corpus-id": w, "score": 1} for w in words]
    write_jsonl(root / "scifact" / "qrels" / "test.jsonl", qrels)
    (root / "scifact" / "README.md").write_text(CARD)
    server = Hub(tmp_path / "hub")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def gecko_eval(hub, tmp_path):
    """Runs the command line in a process of its own, whose only hub is ours and whose caches are empty at first."""

    def call(*arguments, **more):
        places = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "MTEB_CACHE": str(tmp_path / "mteb")}
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "GECKO_"))} | places | more
        command = [sys.executable, "-m", "gecko_eval.cli", *map(str, arguments)]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    return call


def test_what_prefetch_brought_serves_runs_without_the_hub(gecko_eval, hub, tmp_path):
    tasks = ["STSBenchmark", "SciFact"]
    fetched = gecko_eval("prefetch", *tasks, "NFCorpus")
    assert fetched.returncode == 1, fetched.stderr
    lines = fetched.stdout.splitlines()
    assert [line.split(":")[1].strip() for line in lines[:2]] == ["in the cache"] * 2
    assert "NFCorpus: RepositoryNotFoundError" in fetched.stderr
    assert len(lines) == 2
    assert any("stsbenchmark-sts" in path for path in hub.asked)

    online = gecko_eval("run", "--model", "bm25", "--tasks", "SciFact", "--out", "online")
    assert online.returncode == 0, online.stdout + online.stderr
    hub.shutdown()
    hub.server_close()
    run = ("run", "--model", "bm25", "--tasks", "SciFact", "NFCorpus", "--offline", "--out", "offline")
    offline = gecko_eval(*run)
    assert offline.returncode == 1, offline.stdout + offline.stderr
    assert "run `gecko-eval prefetch NFCorpus` where there is a network" in offline.stderr
    assert "Traceback" not in offline.stdout + offline.stderr
    results = [json.loads((tmp_path / out / "results.json").read_text()) for out in ("online", "offline")]
    scores = [found["tasks"]["SciFact"]["scores"]["0"]["main"] for found in results]
    assert scores[0] == scores[1] == 1.0


@pytest.mark.parametrize("offline", [["--offline"], []])
def test_without_prefetch_every_task_fails_in_one_line(gecko_eval, hub, offline):
    hub.shutdown()
    hub.server_close()
    found = gecko_eval("run", "--model", "bm25", "--tasks", "SciFact", "NFCorpus", *offline)
    assert found.returncode == 2, found.stdout + found.stderr
    assert found.stderr.count("its data cannot be had here") == 2
    assert len(found.stdout.splitlines()) == 2  # what is run, the sum
    assert "Traceback" not in found.stdout + found.stderr
