"""Markdown and HTML to titled sections of plain text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_FENCE = re.compile(r"^\s*(```|~~~)")
_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*\s*$")
_RULE = re.compile(r"^(=+|-{2,})\s*$")
_BLOCKS = {"p", "div", "section", "article", "li", "ul", "ol", "table", "tr", "br", "pre", "blockquote", "dd", "dt"}
_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
_SILENT = {"script", "style", "nav", "header", "footer", "noscript", "template", "svg", "title"}


def markdown_sections(text: str) -> list[tuple[str | None, str]]:
    """(heading, body) for every heading with a body; text before the first heading has no heading of its own.

    A section without text of its own gives its heading to nobody; `#` inside fenced code is not a heading.
    """
    sections: list[tuple[str | None, list[str]]] = [(None, [])]
    fenced = False
    for line in _without_front_matter(text).split("\n"):
        if _FENCE.match(line):
            fenced = not fenced
        heading = None if fenced else _HEADING.match(line)
        body = sections[-1][1]
        if heading:
            sections.append((_plain(heading[2]), []))
        elif not fenced and _RULE.match(line) and body and body[-1].strip() and (len(body) < 2 or not body[-2].strip()):
            sections.append((_plain(body.pop()), []))
        else:
            body.append(line)
    joined = ((title, "\n".join(lines).strip()) for title, lines in sections)
    return [(title, body) for title, body in joined if body]


def _without_front_matter(text: str) -> str:
    if text.startswith("---\n"):
        end = text.find("\n---\n", 4)
        if end > 0:
            return text[end + 5 :]
    return text


def _plain(heading: str) -> str:
    without_links = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[`*]", "", without_links).strip()


def html_to_markdown(text: str) -> str:
    """Visible text of an HTML page, headings as `#` lines, blocks as paragraphs; scripts and navigation left out."""
    parser = _TextOf()
    parser.feed(text)
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.parts).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class _TextOf(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif tag in _HEADINGS and not self._silent:
            self.parts.append(f"\n\n{'#' * int(tag[1])} ")
        elif tag in _BLOCKS and not self._silent:
            self.parts.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif (tag in _HEADINGS or tag in _BLOCKS) and not self._silent:
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data.replace("\n", " "))
