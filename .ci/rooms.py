"""The picture of the rooms in docs/architecture.md, drawn from the code.

    python .ci/rooms.py            check that docs/architecture.md shows the code as it is (exit code 1 if not)
    python .ci/rooms.py --write    draw it again

A box is a room (a folder of a package) with the first line of its docstring. An arrow is an import that runs, deferred
ones included; imports for type checkers alone do not count.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: drawn by .ci/rooms.py -->\n", "<!-- end of rooms -->"
PACKAGES = ("kernels", "core", "fret", "eval", "train")


def source(package: str) -> Path:
    """The folder of a package's code."""
    return ROOT / "packages" / f"gecko-{package}" / "src" / f"gecko_{package}"


def rooms(package: str) -> dict[str, str]:
    """Room name to the first line of its docstring, in alphabetical order."""
    described = {}
    for init in sorted(source(package).glob("*/__init__.py")):
        docstring = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
        described[init.parent.name] = docstring.split("\n")[0].rstrip(".")
    return described


def imports(tree: ast.AST) -> Iterator[str]:
    """Absolute names of the modules and members that a file imports when it runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for branch in node.orelse:
                yield from imports(branch)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def room_of(name: str) -> tuple[str, str] | None:
    """("core", "io") for gecko_core.io.files; ("core", "") for a module outside any room; None for other packages."""
    package, _, rest = name.partition(".")
    if package.removeprefix("gecko_") not in PACKAGES or not package.startswith("gecko_"):
        return None
    package = package.removeprefix("gecko_")
    room = rest.split(".")[0]
    return package, room if room in rooms(package) else ""


def arrows() -> tuple[set[tuple[str, str]], set[tuple[str, str, str]]]:
    """(package, imported package) pairs, and (package, room, imported room) triples."""
    outer, inner = set(), set()
    for package in PACKAGES:
        known = rooms(package)
        for path in sorted(source(package).rglob("*.py")):
            place = path.relative_to(source(package)).parts
            room = place[0] if place[0] in known else ""
            for name in imports(ast.parse(path.read_text(encoding="utf-8"))):
                target = room_of(name)
                if target is None:
                    continue
                if target[0] != package:
                    outer.add((package, target[0]))
                elif room and target[1] and target[1] != room:
                    inner.add((package, room, target[1]))
    return outer, inner


def drawing() -> str:
    """The Mermaid block."""
    outer, inner = arrows()
    lines = ["```mermaid", "flowchart TB"]
    for package in reversed(PACKAGES):
        lines.append(f'  subgraph {package}["gecko-{package}"]')
        lines += [f'    {package}_{room}["<b>{room}</b><br/>{text}"]' for room, text in rooms(package).items()]
        lines += [f"    {package}_{room} --> {package}_{target}" for _, room, target in sorted(inner) if _ == package]
        lines.append("  end")
    lines += [f"  {package} ==> {target}" for package, target in sorted(outer)]
    return "\n".join([*lines, "```", ""])


def main(arguments: list[str]) -> int:
    """Checks or writes the page; returns the exit code."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    shown, _, after = rest.partition(END)
    drawn = "\n" + drawing() + "\n"
    if shown == drawn:
        return 0
    if "--write" in arguments:
        PAGE.write_text(before + BEGIN + drawn + END + after, encoding="utf-8")
        return 0
    print("docs/architecture.md shows other rooms than the code has; run: python .ci/rooms.py --write", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
