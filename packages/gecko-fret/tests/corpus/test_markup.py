import pytest

from gecko_fret.corpus.markup import html_sections, markdown_sections


def test_sections_carry_their_headings():
    text = "intro\n\n# One\nbody one\n\n## Two [link](x) `code`\nbody two\n# Empty\n# Last\nbody three"
    assert markdown_sections(text) == [
        (None, "intro"),
        ("One", "body one"),
        ("Two link code", "body two"),
        ("Last", "body three"),
    ]


def test_underlined_headings_rules_and_front_matter():
    text = "---\ntitle: x\n---\nHeading\n=======\nbody\n\nmore\n---\nlast"
    assert markdown_sections(text) == [("Heading", "body"), ("more", "last")]


def test_hash_in_code_is_no_heading():
    assert markdown_sections("# Top\n```\n# comment\n```\ntext") == [("Top", "```\n# comment\n```\ntext")]


@pytest.mark.parametrize(
    "code",
    [
        "````md\n```\n# no heading\n```\n# nor this\n````",
        "~~~\n```\n# no heading\n~~~ x\n# nor this\n~~~~",
        "1. item\n\n    ```\n    x\n# no heading\n    ```",
        "```inline``` text",
        "``` not `code`",
    ],
)
def test_fences_end_where_commonmark_says(code):
    assert markdown_sections(f"{code}\n# Top\ntext") == [(None, code), ("Top", "text")]


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("---\ntitle: x\ntags:\n  - a\n- b\n# c\n\nlast key: y\n---\nbody", "body"),
        ("---\ntitle: x\n...\nbody", "body"),
        ("---\n# a comment\ntitle: x\n---\nbody", "body"),
        ("---\n\nfirst\n\n---\n\nlast", None),
        ("---\nfirst line\n\n---\n\nlast", None),
        ("---\nNote: not a key\nbut a line of text\n\n---\n\nlast", None),
        ("---\ntitle: never closed\n\nlast", None),
    ],
)
def test_a_break_at_the_top_begins_no_front_matter_without_keys(text, body):
    assert markdown_sections(text) == [(None, body or text)]


@pytest.mark.parametrize(
    ("heading", "title"),
    [
        ("# C#", "C#"),
        ("## F# and C# ##", "F# and C#"),
        ("# The `*` operator and 2 * 3", "The * operator and 2 * 3"),
        ("# *Em*, **a `b*c` d** and a*b*c", "Em, a b*c d and a*b*c"),
        ("# `` ` `` and [a *b*](c) \\*", "` and a b *"),
        ("# __init__ of ![x](y)", "__init__ of x"),
    ],
)
def test_titles_lose_marks_and_nothing_else(heading, title):
    assert markdown_sections(f"{heading}\n\ntext") == [(title, "text")]


def test_html_keeps_visible_text_and_headings():
    page = """<html><head><title>T</title><style>p{}</style></head><body><nav>menu</nav>
    <h2>Head &lt;one&gt;</h2><p>First <b>bold</b>
    line</p><ul><li>a</li><li>b</li></ul><script>x()</script></body></html>"""
    assert html_sections(page) == [("Head <one>", "First bold line\n\na\n\nb")]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("plain text", "plain text"),
        ("a < b and x<5 & y>3", "a < b and x<5 & y>3"),
        ("<?xml version='1.0' encoding='latin-1'?><html><body>caf\u00e9 &copy;</body></html>", "caf\u00e9 \u00a9"),
        ("<p>a<!-- b -->c<nav>menu</nav>d", "acd"),
        ("<html><body><p>a</body></HTML >\n<html><body><p>b</html>c", "a\n\nbc"),
        ("<p># text<p>```<p>---", "# text\n\n```\n\n---"),
        ("<pre># install\npip install tool\n\n    y  z </pre>w\nv", "# install\npip install tool\n\n    y  z\n\nw v"),
        ("<table><tr><td>Paris</td><td>2148000</td></tr><tr><th>a<th>b</table>", "Paris 2148000\n\na b"),
        ("<select><option>a</option><option>b</option></select>", "a b"),
        ("<details><summary>More</summary>text</details>", "More\n\ntext"),
        ("<dl><dt>a</dt><dd>b</dd><dt>c</dt></dl>", "a\n\nb\n\nc"),
    ],
)
def test_pages_as_people_write_them(page, text):
    assert html_sections(page) == [(None, text)]


@pytest.mark.parametrize(
    ("page", "sections"),
    [
        ("", []),
        ("<!-- nothing -->", []),
        ("<p>one<p>two<h1>Three<br>four", [(None, "one\n\ntwo"), ("Three", "four")]),
        ("<header><a>logo</a><h1>Title</h1><p>by me</p></header><p>text", [("Title", "text")]),
        ("<h2><div>Head</div></h2>a<h3></h3>b<h4>Last</h4>", [("Head", "a\n\nb")]),
        ("<h1># C#</h1><p>2 * 3", [("# C#", "2 * 3")]),
    ],
)
def test_sections_of_pages(page, sections):
    assert html_sections(page) == sections


def test_elements_that_are_never_closed_keep_their_text():
    assert html_sections("<p>word " * 20_000)[0][1].count("word") == 20_000
    assert html_sections("<b>word " * 1_000)[0][1].count("word") == 1_000
    assert len(html_sections("<h1>a<p>word " * 20_000)) == 20_000
    assert html_sections("<h1></h1>word " * 20_000)[0][1].count("word") == 20_000


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# a" + " " * 1_000 + "b\n\nx", "a" + " " * 1_000 + "b"),
        ("# a" + " " * 100_000 + "b\n\nx", None),
        ("# a" + "#" * 100_000 + "b\n\nx", None),
        ("# " + "[" * 100_000 + "\n\nx", None),
        ("[" * 100_000 + "\n===\nx", None),
        ("# a ##\n\nx", "a"),
        ("# #\n\nx", "#"),
        ("# " + "*" * 1_000 + "`" * 990 + "\n\nx", "*" * 1_000 + "`" * 990),
        ("# " + "(*a " * 490 + "\n\nx", ("(*a " * 490).strip()),
    ],
)
def test_headings_are_read_at_once_and_have_an_end(text, title):
    assert [heading for heading, _ in markdown_sections(text)] == [title]


@pytest.mark.parametrize("name", ["audio", "canvas", "iframe", "noembed", "noframes", "noscript", "video"])
def test_what_stands_in_for_what_a_browser_shows_is_no_text(name):
    """The markup within an iframe was text."""
    page = f"<p>before</p><{name}><p>Your browser cannot show this.</p></{name}> <p>after</p>"
    assert html_sections(page) == [(None, "before\n\nafter")]


@pytest.mark.parametrize("line", ["- buy milk", "* item", "+ item", "1. one", "12) two", "> quote", "    code", "***"])
def test_only_text_of_a_paragraph_is_underlined(line):
    """What follows is a rule then; a list of one item above it became a title, or was lost as one without a body."""
    assert markdown_sections(f"# A\n\nx\n\n# B\n\n{line}\n---\n# C\n\ny") == [
        ("A", "x"), ("B", f"{line.strip()}\n---"), ("C", "y"),
    ]  # fmt: skip
    assert markdown_sections(f"before\n\n{line}\n---\nafter") == [(None, f"before\n\n{line}\n---\nafter")]


@pytest.mark.parametrize("text", [" # Head\nx", "   ## Head ##\nx", "Head\n  ===\nx", "Head\n-\nx", " Head\n---\nx"])
def test_headings_may_be_indented_a_little_and_underlined_by_one_mark(text):
    assert markdown_sections(text) == [("Head", "x")]


def test_four_spaces_before_a_heading_are_code():
    assert markdown_sections("a\n\n    # no\n\nb") == [(None, "a\n\n    # no\n\nb")]


def test_front_matter_is_a_mapping():
    for matter in ("", "title: T\n", "tags:\n- a\n- b\ntitle: T\n", "# note\ntitle:\n  - a\n\nother: x\n"):
        assert markdown_sections(f"---\n{matter}---\nrest") == [(None, "rest")]
    kept = "---\nDate: today\n\n# Heading\n\n- item one\n- item two\n\n---\n\nrest"
    assert markdown_sections(kept) == [
        (None, "---\nDate: today"), ("Heading", "- item one\n- item two\n\n---\n\nrest"),
    ]  # fmt: skip
    assert markdown_sections("---\n# T\n---\ntext") == [(None, "---"), ("T", "---\ntext")]
