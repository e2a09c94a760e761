import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

import gecko_train


def test_every_exported_name_is_there():
    assert set(dir(gecko_train)) == set(gecko_train.__all__)
    assert all(getattr(gecko_train, name) is not None for name in gecko_train.__all__)


def test_importing_the_package_loads_no_torch():
    code = "import sys, gecko_train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("room", ["data", "data.sources", "loop", "loss", "run"])
def test_a_room_exports_what_it_says(room):
    module = import_module(f"gecko_train.{room}")
    for name in module.__all__:
        assert name in dir(module)
        # A file of the same name would take the export's place once it is imported.
        assert not isinstance(getattr(module, name), ModuleType)
