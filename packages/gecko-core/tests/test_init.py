import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

import gecko_core


def test_import_is_light():
    code = (
        "import sys, gecko_core; print('torch' in sys.modules, 'transformers' in sys.modules, 'numpy' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False", "False"]


def test_gecko_is_fetched_when_asked_for():
    from gecko_core.model import Gecko

    assert gecko_core.Gecko is Gecko
    assert "Gecko" in dir(gecko_core)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Newt'"):
        _ = gecko_core.Newt


@pytest.mark.parametrize(
    "room", ["gecko_core", *(f"gecko_core.{name}" for name in ("backbones", "encode", "fields", "folder", "io"))]
)
def test_a_room_exports_what_it_says(room):
    module = import_module(room)
    for name in module.__all__:
        assert name in dir(module)
        # A file of the same name would take the export's place once it is imported.
        assert not isinstance(getattr(module, name), ModuleType)
