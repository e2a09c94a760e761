import sys
from types import ModuleType

import pytest
from pydantic import ValidationError

from gecko_core.errors import ConfigError
from gecko_core.io import parse_settings
from gecko_fret.llm import BACKENDS, llm_fingerprint, load_llm
from gecko_fret.llm.config import LLMConfig


def test_unknown_backend_names_the_known_ones():
    with pytest.raises(ValidationError, match=r"'llamacpp' is no backend; use one of transformers, vllm, openai"):
        LLMConfig(backend="llamacpp")


def test_a_backend_is_one_file_and_one_line(monkeypatch, fake_llm):
    class Echo:
        @classmethod
        def load(cls, config):
            return fake_llm(name=config.model)

        @classmethod
        def fingerprint_of(cls, config):
            return f"echo:{config.model}"

    module = ModuleType("toy_backend")
    module.Echo = Echo
    monkeypatch.setitem(sys.modules, "toy_backend", module)
    monkeypatch.setitem(BACKENDS, "echo", "toy_backend.Echo")
    config = LLMConfig(backend="echo", model="any")
    assert load_llm(config).name == "any"
    assert llm_fingerprint(config) == "echo:any"


def test_a_name_loads_its_own_backend_only(tmp_path):
    """Reading the configuration imports no backend, and thus neither torch nor an HTTP client."""
    import subprocess

    code = (
        "import sys, gecko_fret.config;"
        "print([m for m in ('torch', 'vllm', 'openai', 'gecko_fret.llm.openai') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "https://user:s3cret@host/v1"}, "has a user, a password or parameters"),
        ({"url": "https://host/v1?key=s3cret"}, "has a user, a password or parameters"),
        ({"api_key_env": "sk-s3cret"}, "no name of an environment variable"),
        ({"budget_usd": 3}, "budget_usd needs usd_per_million_read"),
    ],
)
def test_secrets_and_missing_prices_are_refused(settings, message):
    values = {"backend": "openai", "url": "http://h/v1"} | settings
    with pytest.raises(ConfigError, match=message) as caught:
        parse_settings(LLMConfig, values, "llm")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://h/v1", "//h/v1", "file:///etc/passwd", "http://", "http://a b/v1", "http://h:abc/v1",
     "http://h:99999999/v1", "http://h\n/v1", "http://[::1/v1", "http://h:0/v1", ""],
)  # fmt: skip
def test_what_is_no_address_is_refused_before_it_is_asked(url):
    with pytest.raises(ConfigError, match=r"url.* is no address of a server; write it as http://host:port/v1"):
        parse_settings(LLMConfig, {"backend": "openai", "url": url})


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "https://host/v1", "http://[::1]:8000/v1"])
def test_addresses_of_servers_pass(url):
    assert LLMConfig(backend="openai", url=url).url == url


@pytest.mark.parametrize(
    "settings", [{"url": "http://h/v1"}, {"budget_tokens": 10}, {"concurrency": 9}, {"extra_body": {"a": 1}}]
)
def test_what_only_servers_are_told_is_refused_where_none_is_asked(settings):
    (name,) = settings
    with pytest.raises(ConfigError, match=rf"{name} is for servers, and llm.backend transformers asks none"):
        parse_settings(LLMConfig, settings)
    assert LLMConfig.model_validate(LLMConfig().model_dump()) == LLMConfig()
