"""Markdown and HTML to titled sections of plain text."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree, html

#: Heading, if any, and body.
Section = tuple[str | None, str]

_FENCE = re.compile(r"\s*(?P<mark>`{3,}|~{3,})(?P<info>.*)")
_HEADING = re.compile(r" {0,3}#{1,6}(?=\s)")
_LONGEST_HEADING = 2_000  # characters; a longer line is text
_RULE = re.compile(r" {0,3}(=+|-+)\s*$")
# Lines that are no text of a paragraph, and so no heading when they are underlined: what follows is a rule then.
_NO_PARAGRAPH = re.compile(
    r" {4}| {0,3}\t"  # code
    r"| {0,3}(?:[-+*](?:\s|$)|\d{1,9}[.)](?:\s|$)|>|(?:[-*_]\s*){3,}$|-+\s*$|=+\s*$)"  # lists, quotes, rules
)
_KEY = re.compile(r"[\"']?[\w.-]+(?: [\w.-]+){0,3}[\"']?:(?:\s|$)")
_FRONT_MATTER = re.compile(rf"{_KEY.pattern}|\s|#|-\s|[\]}}]|$")
_ENDS = ("---", "...")
# Stars within a word or between spaces are no marks: 2 * 3, a*b*c.
_INLINE = re.compile(
    r"\\(?P<escaped>[!-/:-@\[-`{-~])"
    r"|(?<!`)(?P<ticks>`+)(?!`)(?P<code>.+?)(?<!`)(?P=ticks)(?!`)"
    r"|!?\[(?P<label>[^\]]*)\]\([^)]*\)"
    r"|(?<![\w*])(?P<stars>\*{1,3})(?![\s*])(?P<strong>.+?)(?<!\s)(?P=stars)(?![\w*])"
)
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_BLOCKS = (
    "address", "article", "aside", "blockquote", "br", "caption", "center", "dd", "details", "dialog", "dir", "div",
    "dl", "dt", "fieldset", "figcaption", "figure", "form", "header", "hgroup", "hr", "legend", "li", "main", "menu",
    "ol", "p", "pre", "search", "section", "summary", "table", "tbody", "tfoot", "thead", "tr", "ul", *_HEADINGS,
)  # fmt: skip
_CELLS = ("button", "optgroup", "option", "select", "td", "textarea", "th")
_GAPS = dict.fromkeys(_BLOCKS, "\n\n") | dict.fromkeys(_CELLS, " ")
#: Scripts and styles, what belongs to the site, and what a browser shows only where it cannot show the thing itself.
_HIDDEN = (
    "script", "style", "nav", "footer", "noscript", "template", "svg", "title",
    "audio", "canvas", "iframe", "noembed", "noframes", "video",
)  # fmt: skip
_PAGE_ENDS = re.compile(r"</html\s*>", re.IGNORECASE)
_KEPT_SPACE = "\0"  # of preformatted text; no page holds this character


def markdown_sections(text: str) -> list[Section]:
    """(heading, body) of every section with a body; text before the first heading has None for a heading.

    The heading of a section without a body is dropped; ``#`` inside fenced code is not a heading. Headings and fences
    are those of CommonMark, but a fence may be indented as deep as the list that it is in, and an underlined heading
    has one line.
    """
    sections: list[tuple[str | None, list[str]]] = [(None, [])]
    fence: str | None = None
    for line in _without_front_matter(text.split("\n")):
        within, fence = fence is not None, _fence_after(line, fence)
        fenced = within or fence is not None
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


def _fence_after(line: str, fence: str | None) -> str | None:
    """The marks of the fence that is open after ``line``, given those of the one that is open before it."""
    match = _FENCE.match(line)
    if match is None:
        return fence
    mark, info = match["mark"], match["info"]
    if fence is None:
        return None if mark[0] == "`" and "`" in info else mark  # ```code``` within a line
    closes = mark[0] == fence[0] and len(mark) >= len(fence) and not info.strip()
    return None if closes else fence


def _heading(line: str) -> str | None:
    """The text of a line that is a heading, without the marks before and after it."""
    marks = _HEADING.match(line)
    if marks is None or len(line) > _LONGEST_HEADING or len(line) - marks.end() < 2:
        return None
    text = line[marks.end() :].strip()
    before = text.rstrip("#")
    return text if before and not before[-1].isspace() else before.rstrip() or text[:1]  # "C#" ends in no mark


def _underlined(body: list[str]) -> bool:
    """Whether the last line stands alone and may be a heading, if it is underlined."""
    if not body or not body[-1].strip() or len(body[-1]) > _LONGEST_HEADING or _NO_PARAGRAPH.match(body[-1]):
        return False
    return len(body) < 2 or not body[-2].strip()


def _without_front_matter(lines: list[str]) -> list[str]:
    """The lines behind a block of YAML at the top; a text may also begin with a thematic break, which looks alike."""
    first = next((line for line in lines[1:] if not line.startswith("#")), "")
    is_empty = len(lines) > 1 and lines[1].rstrip() in _ENDS
    if lines[0].rstrip() != "---" or not (_KEY.match(first) or is_empty):
        return lines
    has_items = False  # whether the last key may: it has no value beside it
    for place, line in enumerate(lines[1:], start=1):
        if line.rstrip() in _ENDS:
            return lines[place + 1 :]
        key = _KEY.match(line)
        if key:
            has_items = not line[key.end() :].strip()
        elif not _FRONT_MATTER.match(line) or (line.startswith("- ") and not has_items):
            break
    return lines


def _plain(heading: str) -> str:
    """A heading without the marks of code, emphasis and links."""
    return _INLINE.sub(_inline, heading).strip()


def _inline(match: re.Match[str]) -> str:
    if match["escaped"] or match["code"]:
        return match["escaped"] or match["code"].strip() or match[0]
    return _plain(match["label"] or match["strong"] or "")


def html_sections(text: str) -> list[Section]:
    """(heading, body) of the visible text of an HTML page, as of ``markdown_sections``; no scripts and no navigation.

    Blocks are paragraphs, preformatted text keeps its lines. Of a ``header`` only the headings are kept.

    lxml parses the page, in linear time. The Markdown converters that were tried recurse into elements that were never
    closed until Python gives up (markdownify, inscriptis), lose text (html-to-markdown), or are under the GPL
    (html2text); what passages need of them is the walk below.

    Raises:
        ValueError: the page cannot be parsed to its end, such as one whose elements are nested 2,048 deep.
    """
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        # libxml2 stops at the tag; to a browser what follows is still the page.
        page = html.document_fromstring(_PAGE_ENDS.sub("", text).encode(), parser=parser)
    except etree.ParserError:  # nothing but white space and comments
        return []
    fatal = next((entry for entry in parser.error_log if entry.type_name == "ERR_RESOURCE_LIMIT"), None)
    if fatal:
        raise ValueError(fatal.message)
    etree.strip_elements(page, *_HIDDEN, with_tail=False)
    walk = _Walk()
    for event, element in etree.iterwalk(page, events=("start", "end")):
        (walk.start if event == "start" else walk.end)(element)
    return walk.sections()


class _Walk:
    """Collects the texts of a page's headings, and of what is below each, element by element."""

    def __init__(self) -> None:
        self._parts: list[tuple[list[str], list[str]]] = [([], [])]
        self._heading: Any = None
        self._within = {"pre": 0, "header": 0}

    def start(self, element: Any) -> None:
        """Enter an element."""
        if element.tag in _HEADINGS:
            self._heading = element
            self._parts.append(([], []))
        if element.tag in self._within:
            self._within[element.tag] += 1
        self._add(_GAPS.get(element.tag, ""))
        self._add(self._spaced(element.text))

    def end(self, element: Any) -> None:
        """Leave an element."""
        if element is self._heading:
            self._heading = None
        if element.tag in self._within:
            self._within[element.tag] -= 1
        self._add(_GAPS.get(element.tag, ""))
        self._add(self._spaced(element.tail))

    def sections(self) -> list[Section]:
        """What was collected; a heading is the first line of its element, which may be one that is never closed."""
        found: list[tuple[str | None, list[str]]] = [(None, [])]
        for heading, pieces in self._parts:
            title, _, rest = _lines(heading).partition("\n")
            if title and len(title) <= _LONGEST_HEADING:
                found.append((title, []))
            else:
                found[-1][1].append(title)
            found[-1][1].extend((rest.strip(), _lines(pieces)))
        joined = ((title, "\n\n".join(part for part in parts if part)) for title, parts in found)
        return [(title, body) for title, body in joined if body]

    def _add(self, text: str) -> None:
        if self._heading is not None:
            self._parts[-1][0].append(text)
        elif not self._within["header"]:
            self._parts[-1][1].append(text)

    def _spaced(self, text: str | None) -> str:
        if not self._within["pre"]:
            return re.sub(r"\s+", " ", text or "")
        return (text or "").expandtabs().replace(" ", _KEPT_SPACE)


def _lines(pieces: list[str]) -> str:
    """Lines with single spaces, but for those of preformatted text, and paragraphs with single lines between them."""
    lines = (" ".join(line.split()).replace(_KEPT_SPACE, " ").rstrip() for line in "".join(pieces).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
