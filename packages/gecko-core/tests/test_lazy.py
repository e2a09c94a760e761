import pytest

from gecko_core.lazy import lazy_exports


def test_names_are_imported_when_asked_for():
    getattribute, directory = lazy_exports("package", {"OrderedDict": "collections"})
    assert getattribute("OrderedDict").__module__ == "collections"
    assert directory() == ["OrderedDict"]
    assert lazy_exports("package", {"b": "c"}, ["b", "a"])[1]() == ["a", "b"]
    with pytest.raises(AttributeError, match="module 'package' has no attribute 'other'"):
        getattribute("other")
