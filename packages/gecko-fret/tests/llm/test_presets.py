import pytest

from gecko_core.errors import ConfigError
from gecko_core.io import parse_settings
from gecko_fret.config import parse_config
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.presets import load_preset, preset_names
from gecko_fret.models import llm_settings


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_server(name):
    config = LLMConfig(preset=name, model="m", **({} if "url" in load_preset(name) else {"url": "https://h/openai/v1"}))
    assert config.backend == "openai"
    assert not str(config.url).endswith("/")
    assert config.api_key_env != "OPENAI_API_KEY" or name == "openai"  # a key goes to the host that it is for
    assert LLMConfig.model_validate(config.model_dump()) == config
    assert parse_config({"llm": config.model_dump()}).score.judges


def test_these_servers_have_presets():
    local = {"vllm", "llama.cpp", "ollama", "lm-studio", "tgi"}
    assert {*preset_names()} == local | {"openai", "azure", "mistral", "gemini", "anthropic", "openrouter"}


def test_what_is_set_goes_before_the_preset():
    config = LLMConfig(preset="ollama", model="m", url="http://other:1/v1", extra_body={})
    assert (config.url, config.api, config.extra_body) == ("http://other:1/v1", "chat", {})
    alone = LLMConfig(
        backend="openai", model="m", url="http://h/v1", api="chat", extra_body={"reasoning_effort": "none"}
    )
    assert llm_settings(LLMConfig(preset="ollama", model="m")) == llm_settings(alone)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "olama", "model": "m"}, r"'olama' is no preset; there are anthropic, azure"),
        ({"preset": "ollama"}, r"preset ollama needs llm\.model"),
        ({"preset": "azure", "model": "m"}, r"needs llm\.url"),
        ({"preset": 3}, "preset"),
    ],
)
def test_what_is_missing_is_one_line(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_settings(LLMConfig, values, "llm")
    assert "\n" not in str(caught.value)
