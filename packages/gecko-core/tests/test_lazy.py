import sys

import pytest

from gecko_core.lazy import import_without, lazy_exports


def test_names_are_imported_when_asked_for():
    getattribute, directory = lazy_exports("package", {"OrderedDict": "collections"})
    assert getattribute("OrderedDict").__module__ == "collections"
    assert directory() == ["OrderedDict"]
    assert lazy_exports("package", {"b": "c"}, ["b", "a"])[1]() == ["a", "b"]
    with pytest.raises(AttributeError, match="module 'package' has no attribute 'other'"):
        getattribute("other")


def test_an_import_can_leave_out_an_optional_package(tmp_path, monkeypatch):
    (tmp_path / "greedy_package.py").write_text("taken = True\n")
    (tmp_path / "wanting_module.py").write_text(
        "try:\n    import greedy_package\nexcept ImportError:\n    greedy_package = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("greedy_package", "wanting_module"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = import_without("wanting_module", "greedy_package")
    assert found.greedy_package is None
    assert "greedy_package" not in sys.modules
    assert import_without("wanting_module", "greedy_package") is found
    import greedy_package  # whoever wants it still finds it

    del sys.modules["wanting_module"]
    assert import_without("wanting_module", "greedy_package").greedy_package is greedy_package
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        import_without("no_such_module", "another")
    assert "another" not in sys.modules
