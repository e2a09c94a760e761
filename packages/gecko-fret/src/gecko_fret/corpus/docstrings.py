"""The interpreter's own documentation as a corpus: real, titled English text that is on every machine.

Two sources: the language reference's topics (`pydoc_data.topics`) and the docstrings of the standard library. The
docstrings are read from the source files by `ast`; no module is imported for them, since importing the standard
library opens windows, web pages and sockets.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from gecko_fret.corpus.passages import Passage
from gecko_fret.corpus.splitting import MAX_WORDS, MIN_WORDS, count_words, split_text
from gecko_fret.text_rules import LATEST, TextRules

_SKIPPED_FOLDERS = {
    "test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages", "_bundled",
    "pydoc_data", "__pycache__", "__phello__", "encodings", "_pyrepl",
}  # fmt: skip
_HEADING = re.compile(r"^(?P<title>\S.*)\n(?P<rule>[*=\-~^])(?P=rule){2,}$", re.MULTILINE)
_MAX_TITLE_WORDS = 25


#: Name, title and text of a piece of documentation.
_Piece = tuple[str, str, str]


def documentation_passages(rules: TextRules = LATEST) -> Iterator[Passage]:
    """Every passage in a fixed order; 40 to 250 words each, exact repeats not yet removed.

    Args:
        rules: what a sentence is.

    Yields:
        Titled passages without a source.
    """
    for name, title, body in _pieces():
        yield from _passages(name, title, body, rules)


def _pieces() -> Iterator[_Piece]:
    yield from _topics()
    yield from _builtin_docs()
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if not _SKIPPED_FOLDERS.intersection(relative.parts):
            yield from _module_docs(path, _module_name(relative))


def _topics() -> Iterator[_Piece]:
    from pydoc_data import topics

    for name in sorted(topics.topics):
        for number, (title, body) in enumerate(_sections(topics.topics[name])):
            yield f"topic:{name}:{number}", title, body


def _sections(text: str) -> Iterator[tuple[str, str]]:
    headings = list(_HEADING.finditer(text))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        end = following.start() if following else len(text)
        yield _one_line(heading["title"]), text[heading.end() : end]


def _builtin_docs() -> Iterator[_Piece]:
    """Docstrings of the `builtins` module, which is written in C and already loaded."""
    for name in sorted(vars(builtins)):
        value = getattr(builtins, name)
        if name.startswith("_") or not (inspect.isclass(value) or inspect.isbuiltin(value)):
            continue
        yield from _from_docstring(f"builtins.{name}", inspect.getdoc(value))
        if inspect.isclass(value):
            members = {m: v for m, v in vars(value).items() if not m.startswith("_") and callable(v)}
            docs = [(f"{name}.{m}", inspect.getdoc(members[m]) or "") for m in sorted(members)]
            yield from _members(f"builtins.{name}", f"Methods of the built-in class {name}", docs)


def _module_docs(path: Path, module: str) -> Iterator[_Piece]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old docstrings hold invalid escapes
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return  # a few files of the library are deliberately broken or in odd encodings
    yield from _node_docs(tree, module, f"Functions and classes of the module {module}")


def _node_docs(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str, members_title: str
) -> Iterator[_Piece]:
    yield from _from_docstring(name, ast.get_docstring(node))
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return
    short: list[tuple[str, str]] = []
    seen: set[str] = set()
    for child in node.body:
        if not isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or child.name in seen:
            continue
        seen.add(child.name)  # a property's getter and setter share a name
        documentation = ast.get_docstring(child) or ""
        if documentation and not _stands_alone(documentation):
            short.append((_signature(child), documentation))
        where = f"{name}.{child.name}"
        yield from _node_docs(child, where, f"Methods of the class {child.name} in {name}")
    yield from _members(name, members_title, short)


def _from_docstring(name: str, documentation: str | None) -> Iterator[_Piece]:
    if documentation and _stands_alone(documentation):
        title, body = _summary(documentation)
        yield f"doc:{name}", title, body


def _members(name: str, title: str, docs: list[tuple[str, str]]) -> Iterator[_Piece]:
    """Docstrings too short for a passage of their own, listed with their signatures."""
    listing = "\n\n".join(f"{signature}: {_one_line(text)}" for signature, text in docs if text)
    yield f"members:{name}", title, listing


def _passages(name: str, title: str, body: str, rules: TextRules) -> Iterator[Passage]:
    pieces = split_text(inspect.cleandoc(body), rules=rules)
    for number, piece in enumerate(pieces):
        if MIN_WORDS <= count_words(piece) <= MAX_WORDS:
            yield Passage(f"{name}:{number}", title, piece)


def _stands_alone(documentation: str) -> bool:
    title, body = _summary(documentation)
    return bool(title) and count_words(title) <= _MAX_TITLE_WORDS and count_words(body) >= MIN_WORDS


def _summary(documentation: str) -> tuple[str, str]:
    """The first paragraph on one line, and the rest."""
    first, _, body = documentation.strip().partition("\n\n")
    return _one_line(first), body


def _signature(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    if isinstance(node, ast.ClassDef):
        return f"class {node.name}"
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return f"{node.name}({', '.join(n for n in names if n not in ('self', 'cls'))})"


def _module_name(relative: Path) -> str:
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _one_line(text: str) -> str:
    return " ".join(text.split())
