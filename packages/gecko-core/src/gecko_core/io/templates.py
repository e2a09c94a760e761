"""Text from templates: reports and model cards are jinja2 files beside the code that fills them in."""

from __future__ import annotations

from typing import Any


def render(package: str, template: str, **values: Any) -> str:
    """Fill in a template.

    Values are escaped in templates that end in .html or .html.j2; Markdown takes them as they are. A name that the
    template uses and nobody gives is an error.

    Args:
        package: the package that carries the file (``gecko_core.folder``).
        template: the file's name, or its path below the package with forward slashes.
        **values: what the template may use.

    Returns:
        The text.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader(package, ""),
        autoescape=select_autoescape(("html", "htm", "xml", "html.j2")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)
