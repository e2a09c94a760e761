"""A hook of MkDocs: pages made of files that stand elsewhere, and links between them.

The README is the first page, each package's README its guide; recipes, results of benchmarks and the API reference are
made from the files themselves. Links are written for a reader of the repository; here they lead to the page that a file
became, and where it became none, only their text is left.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PACKAGES = ("kernels", "core", "fret", "eval", "train")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made; rewrite the links of all."""
    made = dict(_pages())
    at = {source: page for page, (source, _) in made.items() if source}
    at |= {f"docs/{file.src_uri}": file.src_uri for file in files.documentation_pages()}
    at |= {f"docs/{file.src_uri}": file.src_uri for file in files.media_files()}
    for package in PACKAGES:
        at[f"packages/gecko-{package}"] = f"packages/gecko-{package}.md"
    at |= {"recipes": "recipes.md", "experiments": "results.md", "README.md": "index.md"}
    pictures = {}
    for page, (source, text) in made.items():
        files.append(File.generated(config, page, content=_linked(text, source, page, at, pictures)))
    for file in list(files.documentation_pages()):
        if file.generated_by is None:
            path = f"docs/{file.src_uri}"
            text = _linked((ROOT / path).read_text(encoding="utf-8"), path, file.src_uri, at, pictures)
            files.remove(file)
            files.append(File.generated(config, file.src_uri, content=text))
    for uri, path in pictures.items():
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def _pages() -> list[tuple[str, tuple[str, str]]]:
    """Path of each page to the file that it is made of ("" for several) and its Markdown."""
    pages = [
        ("index.md", ("README.md", _text("README.md"))),
        ("contributing.md", ("CONTRIBUTING.md", _text("CONTRIBUTING.md"))),
    ]
    for package in PACKAGES:
        source = f"packages/gecko-{package}/README.md"
        pages.append((f"packages/gecko-{package}.md", (source, _text(source))))
        pages.append((f"reference/gecko_{package}.md", ("", _reference(package))))
        for path in sorted((ROOT / f"packages/gecko-{package}/benchmarks/results").glob("*.md")):
            pages.append(
                (
                    f"results/gecko-{package}/{path.name}",
                    (str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")),
                )
            )
    pages.append(("recipes.md", ("", _recipes())))
    return pages


def _text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _reference(package: str) -> str:
    """A package's public names, room by room."""
    source = ROOT / f"packages/gecko-{package}/src/gecko_{package}"
    lines = [f"# gecko_{package}", ""]
    rooms = [source / "__init__.py", *sorted(source.glob("*/__init__.py"))]
    for init in rooms:
        names = _exported(init)
        module = ".".join(init.parent.relative_to(source.parent).parts)
        if not names:
            continue
        lines += [
            f"## {module}",
            "",
            (ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or "").split("\n")[0],
            "",
        ]
        for name in names:
            lines += [f"::: {module}.{name}", "    options: {heading_level: 3}", ""]
    return "\n".join(lines)


def _exported(init: Path) -> list[str]:
    """Names in ``__all__``, without those of dunder kind."""
    for node in ast.parse(init.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return [name for name in ast.literal_eval(node.value) if not name.startswith("__")]
    return []


def _recipes() -> str:
    lines = [
        "# Recipes",
        "",
        "A recipe is a YAML file that says everything about a run: corpus, student, both stages of training, FRet "
        "between them. `gecko-train run NAME` takes one of these by name, or any file; `--set a.b=c` changes a value. "
        "With every run's output the recipe is saved with all defaults written out.",
        "",
    ]
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        lines += [f"## {path.stem}", "", "```yaml", path.read_text(encoding="utf-8").rstrip(), "```", ""]
    return "\n".join(lines)


def _linked(text: str, source: str, page: str, at: dict[str, str], pictures: dict[str, Path]) -> str:
    """The text with its links as the page needs them.

    Args:
        text: Markdown.
        source: path in the repository of the file that it is from; "" where it has no links.
        page: path of the page.
        at: path in the repository to page.
        pictures: of the site, added to: pictures outside ``docs``.
    """
    if not source:
        return text

    def link(found: re.Match[str]) -> str:
        picture, shown, target = found.groups()
        if re.match(r"[a-z]+:", target) or target.startswith("#"):
            return found[0]
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        goal = at.get(path)
        if goal is None and picture and (ROOT / path).is_file():
            goal = f"pictures/{path}"
            pictures[goal] = ROOT / path
        if goal is None:
            return shown
        anchor = "" if anchor == "readme" else anchor
        relative = posixpath.relpath(goal, posixpath.dirname(page) or ".")
        return f"{picture}[{shown}]({relative}{'#' + anchor if anchor else ''})"

    kept: list[str] = []
    for place, part in enumerate(re.split(r"(^```.*?^```[^\n]*$)", text, flags=re.MULTILINE | re.DOTALL)):
        kept.append(part if place % 2 else LINK.sub(link, part))
    return "".join(kept)
