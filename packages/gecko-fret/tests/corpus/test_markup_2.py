import pytest

from gecko_fret.corpus.markup_2 import html_to_markdown, markdown_sections


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


def test_html_keeps_visible_text_and_headings():
    page = """<html><head><title>T</title><style>p{}</style></head><body><nav>menu</nav>
    <h2>Head &lt;one&gt;</h2><p>First <b>bold</b>
    line</p><ul><li>a</li><li>b</li></ul><script>x()</script></body></html>"""
    assert html_to_markdown(page) == "## Head <one>\n\nFirst bold line\n\na\n\nb"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("", ""),
        ("<!-- nothing -->", ""),
        ("plain text", "plain text"),
        ("a < b and x<5 & y>3", "a < b and x<5 & y>3"),
        ("<?xml version='1.0' encoding='latin-1'?><html><body>caf\u00e9 &copy;</body></html>", "caf\u00e9 \u00a9"),
        ("<p>a<!-- b -->c<nav>menu</nav>d", "acd"),
        ("<p>one<p>two<h1>Three<br>four", "one\n\ntwo\n\n# Three\n\nfour"),
        ("<pre>  code\n  more</pre>", "code more"),
    ],
)
def test_pages_as_people_write_them(page, text):
    assert html_to_markdown(page) == text


def test_elements_that_are_never_closed_keep_their_text():
    assert html_to_markdown("<p>word " * 20_000).count("word") == 20_000
    assert html_to_markdown("<b>word " * 1_000).count("word") == 1_000


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
    ],
)
def test_headings_are_read_at_once_and_have_an_end(text, title):
    assert [heading for heading, _ in markdown_sections(text)] == [title]
