"""Texts that an LLM has enriched (``gecko-fret enrich``), in the place of those that they were made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import PartList, read_json, read_parts

__all__ = ["EnrichedTexts", "enriched_texts", "read_enriched"]

_CURE = "run the same gecko-fret command again"


class EnrichedTexts(Mapping[str, str]):
    """Enriched texts by the text that they were made of, wherever white space differs.

    Args:
        pairs: of text and enriched text.
    """

    def __init__(self, pairs: Mapping[str, str]):
        self._texts = {_key(text): enriched for text, enriched in pairs.items()}

    def __getitem__(self, text: str) -> str:
        return self._texts[_key(text)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def fingerprint(self) -> str:
        """Hash of all pairs, whatever their order."""
        digest = sha256()
        for text in sorted(self._texts):
            for part in (text, self._texts[text]):
                raw = part.encode("utf-8", "surrogatepass")
                digest.update(len(raw).to_bytes(8, "little") + raw)
        return digest.hexdigest()


def enriched_texts(texts: Sequence[str], enriched: Mapping[str, str] | None) -> list[str]:
    """The texts, those that were enriched in their enriched form; others stay as they are.

    Args:
        texts: as they were given to the LLM; white space may differ where ``enriched`` is an :class:`EnrichedTexts`.
        enriched: from :func:`read_enriched`, or any mapping; None: nothing is replaced.
    """
    if enriched is not None and not isinstance(enriched, Mapping):
        raise ConfigError(
            f"enriched must be a mapping of texts, not {type(enriched).__name__}; read a folder with read_enriched"
        )
    if enriched is None:
        return list(texts)
    return [enriched.get(text, text) if isinstance(text, str) else text for text in texts]


def read_enriched(*folders: str | Path) -> EnrichedTexts:
    """Read what ``gecko-fret enrich``, or a build with ``enrich.prompt``, wrote.

    Args:
        folders: of a corpus and of queries, say. Of a text that several have, the last one's counts.

    Raises:
        ConfigError: pyarrow is not installed.
        DataError: no such folder, one without enriched texts, unfinished, or with a part that is damaged.
    """
    pairs: dict[str, str] = {}
    for folder in map(Path, folders):
        if not (folder / "manifest.json").is_file():
            raise DataError(f"{folder}: not a FRet folder (no manifest.json); make one with: gecko-fret enrich")
        manifest = read_json(folder / "manifest.json", cure="restore it, or make the folder again", checksum="sha256")
        stage = manifest.get("stages", {}).get("enrich", {})
        parts = PartList.from_json(folder, manifest.get("parts"))
        if not any(name.startswith("enriched/part-") for name in parts):
            raise DataError(f"{folder}: holds no enriched texts; make them with: gecko-fret enrich")
        if not stage.get("done"):
            raise DataError(f"{folder}: not all texts are enriched yet; {_CURE} to go on")
        for record in read_parts(folder, "enriched", parts, ("text", "enriched"), _CURE):
            pairs[record.text("text")] = record.text("enriched")
    return EnrichedTexts(pairs)


def _key(text: str) -> str:
    return " ".join(text.split())
