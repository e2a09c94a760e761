import pytest

from gecko_core.errors import ConfigError
from gecko_fret.config import CONTRAST, FretConfig, load_config, parse_config


def test_defaults_are_the_papers_where_it_says():
    config = parse_config({"mine": {"fuse": "rrf"}})
    assert config.retrieve.candidates == 20
    assert config.retrieve.seed_top_k == 4
    assert config.score.all_judges == ["ql", "rc"]
    assert config.score.blocks is False
    assert config.score.calibrate is False
    assert (config.generate.write_task, config.generate.contrast) == (True, 0.0)
    assert config.mine.rrf_k == 0
    assert (config.mine.positive, config.mine.negative) == ("p_1", "p_N")


def test_defaults_are_calibrated():
    config = parse_config({})
    assert config.retrieve.seed_top_k is None
    assert config.score.all_judges == ["ql", "similarity", "yes-no"]
    assert config.score.blocks is True
    assert config.score.calibrate is True


def test_what_is_left_open_follows_the_fusion_and_what_the_backend_can():
    assert (parse_config({}).generate.write_task, parse_config({}).generate.contrast) == (False, CONTRAST)
    server = {"backend": "openai", "model": "m", "url": "http://127.0.0.1:1/v1"}
    assert parse_config({"llm": server}).generate.contrast == 0.0
    assert parse_config({"generators": [{"model": "a"}, server]}).generate.contrast == 0.0
    stated = parse_config({"generate": {"write_task": True, "contrast": 0.2}}).generate
    assert (stated.write_task, stated.contrast) == (True, 0.2)
    filled = parse_config({})
    assert parse_config(filled.model_dump(mode="json")) == filled


def test_the_round_trip_is_no_deeper_than_the_candidates():
    shallow = {"retrieve": {"candidates": 3}, "mine": {"fuse": "rrf"}}
    assert parse_config(shallow).retrieve.seed_top_k == 3
    with pytest.raises(ConfigError, match=r"seed_top_k \(4\) is above .*\(3\); lower it, or set it to null"):
        parse_config({"retrieve": {"candidates": 3, "seed_top_k": 4}})


def test_file_and_overrides(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("generate: {seeds: 5}\nseed: 3\n")
    config = load_config(path, ["generate.attempts=7", "retrieve.seed_top_k=null", "generate.kinds={fact checking: 1}"])
    assert (config.seed, config.generate.seeds, config.generate.attempts) == (3, 5, 7)
    assert config.retrieve.seed_top_k is None
    assert config.generate.kinds == {"fact checking": 1.0}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("generate.sources=[log]", "log and sources belong together: name the file in log, and log in sources"),
        ("generate.log=queries.txt", "log and sources belong together"),
        ("generate.sources=[llm,llm]", "sources: a name is there twice"),
        ("generate.sources=[]", r"generate\.sources"),
        ("generate.sources=[web]", r"generate\.sources"),
        ("generate.per_source={titles: 5}", "per_source: titles is not in sources"),
        ("generate.contrast=-1", r"generate\.contrast"),
        ("genrate.seeds=1", r"unknown key 'genrate'; did you mean 'generate'\? \(known here: seed, corpus"),
        ("mine.k=1", r"unknown key 'mine.k'; did you mean 'rrf_k'\? \(known here: fuse, rrf_k"),
        ("seed=-1", r"seed: .*given: -1"),
        ("generate.seeds=many", r"generate.seeds: .*given: 'many'"),
        ("retrieve.seed_top_k=30", r"retrieve.seed_top_k \(30\) is above retrieve.candidates \(20\)"),
        ("generate.min_words=50", r"generate.min_words \(50\) is above generate.max_words \(40\)"),
        ("enrich.min_length=9", r"enrich.min_length \(9.0\) is above enrich.max_length \(4.0\)"),
        ("llm.backend=openai", "needs llm.url"),
        ("llm.backend=llamacpp", "llm.backend: 'llamacpp' is no backend"),
        ("seeds", "write it as section.key=value"),
        ("seed.x.y=1", "seed is a value and has no keys below it"),
        ("score.judges=[ql,rc,ql]", "a name is there twice"),
        ("score.listwise.step=10", r"listwise.step \(10\) must be below listwise.window \(10\)"),
        ("score.bm25.b=2", r"score.bm25.b: .*given: 2"),
        (
            "generators=[{modell: a}]",
            r"unknown key 'generators.0.modell'; did you mean 'model'\? \(known here",
        ),
    ],
)
def test_wrong_settings_are_one_line(override, message):
    raw = ["seed=1"] if override.startswith("seed.x") else []
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(None, [*raw, override])
    assert "\n" not in str(caught.value)


def test_wrong_files_are_one_line(tmp_path):
    with pytest.raises(ConfigError, match="no such config file"):
        load_config(tmp_path / "absent.yaml")
    path = tmp_path / "c.yaml"
    for text, message in (("a: [", "not valid YAML"), ("- a", "holds a list; a config is keys with values")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_config(path)


def test_round_trip_through_json():
    config = parse_config({"generate": {"seeds": 4}, "generators": [{"model": "a"}, {"model": "b", "weight": 2}]})
    assert parse_config(config.model_dump(mode="json")) == config


def test_what_version_0_1_dumped_is_the_papers_fusion():
    dumped = parse_config({"mine": {"fuse": "rrf"}}).model_dump()
    del dumped["mine"]["fuse"], dumped["measure"]
    assert parse_config(FretConfig.upgrade(dumped)).mine.fuse == "rrf"
    assert parse_config(FretConfig.upgrade({"mine": {"fuse": "calibrated"}})).mine.fuse == "calibrated"
