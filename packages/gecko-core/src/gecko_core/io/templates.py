"""Text from templates: reports and model cards are jinja2 files beside the code that fills them in."""

from __future__ import annotations

from typing import Any


def render(package: str, template: str, **values: Any) -> str:
    """Fill in a template.

    Values are escaped in templates whose names end in ``.html.j2``; Markdown takes them as they are. A name that the
    template uses but ``values`` lacks is an error. The filter ``cell`` makes a value safe in a Markdown table.

    Args:
        package: the package that carries the file (``gecko_core.folder``).
        template: the file's name, or its path below the package with forward slashes (``templates/report.md.j2``).
        **values: what the template may use.

    Returns:
        The text.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, ""),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = _cell
    return environment.get_template(template).render(**values)


def _cell(value: Any) -> str:
    """One line that ends no cell and starts no HTML: texts of a corpus and of an LLM stand in these tables."""
    text = " ".join(str(value).splitlines()).replace("\\", "\\\\").replace("|", "\\|")
    return text.replace("&", "&amp;").replace("<", "&lt;")
