"""Markdown and HTML as text rules 1 and 2 read them, for folders that were begun with them; see ``markup``."""

from __future__ import annotations

import re

from lxml import etree, html

_FENCE = re.compile(r"^\s*(```|~~~)")
_HEADING = re.compile(r"#{1,6}(?=\s)")
_LONGEST_HEADING = 2_000  # characters; a longer line is text
_RULE = re.compile(r"^(=+|-{2,})\s*$")
_BLOCKS = (
    "p", "div", "section", "article", "li", "ul", "ol", "table", "tr", "br", "pre", "blockquote", "dd", "dt",
)  # fmt: skip
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_HIDDEN = ("script", "style", "nav", "header", "footer", "noscript", "template", "svg", "title")


def markdown_sections(text: str) -> list[tuple[str | None, str]]:
    """(heading, body) of every section with a body; text before the first heading has None for a heading.

    The heading of a section without a body is dropped; ``#`` inside fenced code is not a heading.
    """
    sections: list[tuple[str | None, list[str]]] = [(None, [])]
    fenced = False
    for line in _without_front_matter(text).split("\n"):
        if _FENCE.match(line):
            fenced = not fenced
        heading = None if fenced else _heading(line)
        body = sections[-1][1]
        if heading is not None:
            sections.append((_plain(heading), []))
        elif not fenced and _RULE.match(line) and _underlined(body):
            sections.append((_plain(body.pop()), []))
        else:
            body.append(line)
    joined = ((title, "\n".join(lines).strip()) for title, lines in sections)
    return [(title, body) for title, body in joined if body]


def _heading(line: str) -> str | None:
    """The text of a line that is a heading, without the marks before and after it."""
    marks = _HEADING.match(line)
    if marks is None or len(line) > _LONGEST_HEADING or len(line) - marks.end() < 2:
        return None
    text = line[marks.end() :].strip()
    return text.rstrip("#").rstrip() or text[:1]


def _underlined(body: list[str]) -> bool:
    """Whether the last line stands alone and may be a heading, if it is underlined."""
    if not body or not body[-1].strip() or len(body[-1]) > _LONGEST_HEADING:
        return False
    return len(body) < 2 or not body[-2].strip()


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
    """Visible text of an HTML page: headings as ``#`` lines, blocks as paragraphs, no scripts and no navigation.

    lxml parses the page, in linear time. The Markdown converters that were tried recurse into elements that were never
    closed until Python gives up (markdownify, inscriptis), lose text (html-to-markdown), or are under the GPL
    (html2text); what passages need of them is the loop below.

    Raises:
        ValueError: the page cannot be parsed to its end, such as one whose elements are nested 2,048 deep.
    """
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        page = html.document_fromstring(text.replace("\n", " ").encode(), parser=parser)
    except etree.ParserError:  # nothing but white space and comments
        return ""
    fatal = next((entry for entry in parser.error_log if entry.type_name == "ERR_RESOURCE_LIMIT"), None)
    if fatal:
        raise ValueError(fatal.message)
    etree.strip_elements(page, *_HIDDEN, with_tail=False)
    for element in page.iter(*_BLOCKS, *_HEADINGS):
        mark = f"{'#' * int(element.tag[1])} " if element.tag in _HEADINGS else ""
        element.text = f"\n\n{mark}{element.text or ''}"
        element.tail = f"\n\n{element.tail or ''}"
    lines = (" ".join(line.split()) for line in "".join(page.itertext()).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
