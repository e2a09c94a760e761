import pytest

from gecko_core.backbones.widths import checked_dims
from gecko_core.errors import ConfigError


def test_dims():
    assert checked_dims((8, 32, 8)) == (32, 8)
    for wrong in ((), (0,), (8.0,), (True,), "ab"):
        with pytest.raises(ConfigError, match="dims must be positive whole numbers"):
            checked_dims(wrong)
    with pytest.raises(ConfigError, match="the largest must be the model's own width, 32"):
        checked_dims((64, 8), 32)
