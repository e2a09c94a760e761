import subprocess
import sys

import pytest

import gecko_train
import gecko_train.data
import gecko_train.loss


@pytest.mark.parametrize("package", [gecko_train, gecko_train.data, gecko_train.loss])
def test_every_exported_name_is_there(package):
    assert {name for name in dir(package) if name != "__version__"} == set(package.__all__) - {"__version__"}
    assert all(getattr(package, name) is not None for name in package.__all__)


def test_importing_the_package_loads_no_torch():
    code = "import sys, gecko_train, gecko_train.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
