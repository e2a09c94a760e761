"""Marks that language models read as control tokens, where they are text."""

from __future__ import annotations

import re
from itertools import pairwise

#: Marks that the tokenizers of some model family read as one control token.
CONTROL = re.compile(
    r"<[|｜][^|｜<>\s]{1,60}[|｜]>|</?s>|<(?:start|end)_of_(?:turn|image|text)>|<(?:bos|eos|pad|unk|mask|sep|cls|eod|eot)>"
    r"|</?(?:think|tool_call|tool_response)>|\[/?INST\]|<</?SYS>>|\[(?:PAD|UNK|CLS|SEP|MASK|BOS|EOS)\]"
)
#: Stands after the first character of a mark that is text: U+2060, which has no width and forbids a line break.
JOINER = "\u2060"


def as_plain_text(text: str) -> str:
    """The text with ``JOINER`` inside of every mark of ``CONTROL``, such as <|im_end|>, those within others too.

    A passage that speaks of the mark at the end of a document must not end the document. Passages and queries go
    through here on their way into a prompt, whoever tokenises it: ``SegmentTokenizer`` cuts the mark and drops the
    joiner; a server that is sent text reads a joiner within a word.
    """
    at, cuts = 0, [0]
    while found := CONTROL.search(text, at):
        at = found.start() + 1
        cuts.append(at)
    return JOINER.join(text[start:end] for start, end in pairwise([*cuts, len(text)]))


def as_written(text: str) -> str:
    """The text without the joiners, as a passage or an answer has it."""
    return text.replace(JOINER, "") if JOINER in text else text
