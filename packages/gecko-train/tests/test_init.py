import subprocess
import sys

import gecko_train


def test_every_exported_name_is_there():
    assert set(dir(gecko_train)) == set(gecko_train.__all__) - {"__version__"}
    assert all(getattr(gecko_train, name) is not None for name in gecko_train.__all__)


def test_importing_the_package_loads_no_torch():
    code = "import sys, gecko_train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
