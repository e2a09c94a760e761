import sys

import jinja2
import pytest

from gecko_core.io import render


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "some_reports"
    folder.mkdir()
    (folder / "__init__.py").touch()
    for name in ("page.html.j2", "page.md.j2"):
        (folder / name).write_text("{% for row in rows %}\n- {{ row }}\n{% endfor %}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield "some_reports"
    sys.modules.pop("some_reports", None)


def test_html_is_escaped_and_markdown_is_not(package):
    assert render(package, "page.html.j2", rows=["<a>", "ü"]) == "- &lt;a&gt;\n- ü\n"
    assert render(package, "page.md.j2", rows=["<a>", "ü"]) == "- <a>\n- ü\n"


def test_a_value_that_is_missing_is_an_error(package):
    with pytest.raises(jinja2.UndefinedError, match="rows"):
        render(package, "page.md.j2")


def test_a_cell_of_a_markdown_table_stays_one_cell(package, tmp_path):
    (tmp_path / package / "table.md.j2").write_text('{{ rows | map("cell") | join(" | ") }}', encoding="utf-8")
    assert render(package, "table.md.j2", rows=["a|b", "two\nlines", 3]) == "a\\|b | two lines | 3"
    assert render(package, "table.md.j2", rows=["C:\\|b", "<img src=x> & y"]) == "C:\\\\\\|b | &lt;img src=x> &amp; y"
