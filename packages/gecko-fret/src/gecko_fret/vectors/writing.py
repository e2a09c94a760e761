"""The file of document-level vectors of a FRet folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gecko_core.errors import ConfigError, DataError
from gecko_core.fields import (
    FIELDS,
    FieldTexts,
    Missing,
    Queries,
    VectorsWriter,
    combine,
    parse_weights,
    read_fields,
    shown_weights,
)
from gecko_core.io import lies_in, make_progress, read_json, refuse_link, remove_folder
from gecko_core.prompts import DEFAULT_TASK
from gecko_fret.vectors.encoded import EncodedFields, encode_fields
from gecko_fret.vectors.fitting import fit_weights

#: The word for weights that are fitted here.
FITTED = "fitted"
_DOCUMENTS = 4096  # combined at a time


@dataclass(frozen=True)
class VectorsOptions:
    """What is made of a FRet folder.

    Attributes:
        model: the embedder, the one of the build by default.
        weights: ``fitted``, or what :func:`gecko_core.fields.parse_weights` reads.
        queries: which queries count, see :func:`gecko_core.fields.read_fields`.
        task: of the users' queries.
        dim: leading components of all vectors, normalised again before they are added; None: all.
        missing: see :func:`gecko_core.fields.combine`.
        normalize: scale the sums to unit length.
        whole: every passage is a document of its own.
        items: sentences that weights are fitted on.
        seed: of drawing them.
        cache: folder where the vectors of texts are kept for further files; None: beside the file until it is written.
        device: where the model runs.
        overwrite: replace a file that is there.
    """

    model: str | None = None
    weights: str = FITTED
    queries: Queries = "answered"
    task: str = DEFAULT_TASK
    dim: int | None = None
    missing: Missing = "chunks"
    normalize: bool = False
    whole: bool = False
    items: int = 200
    seed: int = 0
    cache: Path | None = None
    device: str | None = None
    overwrite: bool = False


def write_vectors(
    run: str | Path,
    out: str | Path,
    options: VectorsOptions | None = None,
    *,
    model: Any = None,
    progress: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Write a Parquet file with a vector c_i + sum_f w_f e_f for every chunk of every document.

    Columns: ``document_id``, ``chunk_id``, ``embedding``. An index of inner products of these ranks by
    max_i s(q, c_i) + sum_f w_f s(q, e_f), where the same document may come several times: its first place counts. What
    was encoded is kept beside the file until it is written, so that a call that was ended goes on.

    Args:
        run: a finished FRet folder.
        out: the file, .parquet.
        options: what to make.
        model: a ready-made embedder instead of ``options.model``.
        progress: show a bar on a terminal, lines in a log.
        say: takes lines on what was read and fitted.

    Returns:
        What the file says of itself: weights, how they were fitted, whether vectors are normalised, model, dim, counts.

    Raises:
        ConfigError: an option that cannot be used, or ``out`` exists.
        DataError: ``run`` cannot be read or ``out`` cannot be written.
        ModelError: the embedder cannot be loaded.
    """
    options, run, out = options or VectorsOptions(), Path(run), Path(out)
    _check(run, out, options)
    weights = None if options.weights == FITTED else parse_weights(options.weights)
    texts = read_fields(run, options.queries, whole=options.whole)
    if options.queries != "none" and not texts.counts["queries"]:
        rest = "none" if options.queries == "all" else "all or none"
        raise DataError(f"{run}: no query counts with --queries {options.queries}; use --queries {rest}")
    say(_described(texts))
    model = model or _load(run, options)
    dim = model.dim if options.dim is None else options.dim
    if not 1 <= dim <= model.dim:
        raise ConfigError(f"--dim {dim}: the model gives {model.dim} dims; choose from 1 to {model.dim}")
    work = options.cache or out.with_name(f".{out.name}.fields")
    encoded = encode_fields(model, texts, work, options.task, make_progress(progress))
    about: dict[str, Any] = {
        "model": model.identity(),
        "dim": dim,
        "normalized": options.normalize,
        "missing": options.missing,
        "task": options.task,
        "queries": texts.queries,
        "texts": texts.fingerprint,
        "counts": texts.counts,
    }
    if weights is None:
        how: dict[str, Any] = {"items": options.items, "missing": options.missing, "seed": options.seed}
        fitted = fit_weights(model, encoded, dim, options.task, **how)
        weights = fitted.weights
        about["fitted"] = {"items": fitted.items, "mrr": _number(fitted.mrr), "mrr_fitted": _number(fitted.mrr_fitted)}
        say(_told(fitted.items, fitted.mrr, fitted.mrr_fitted, weights))
    about["weights"] = weights
    with VectorsWriter.open(out, dim, about) as writer:
        _write(writer, encoded, weights, dim, options)
    if options.cache is None:
        remove_folder(work)
    say(f"{writer.rows} vectors of {len(texts)} documents, {_scale(options)}, weights {shown_weights(weights)}: {out}")
    return about


def _check(run: Path, out: Path, options: VectorsOptions) -> None:
    if out.suffix != ".parquet" or out.name == ".parquet":
        raise ConfigError(f"{out}: vectors are written as NAME.parquet; choose such a name")
    if lies_in(out, run):
        raise ConfigError(f"{out}: is inside the FRet folder, where it might replace a part; choose another place")
    if not out.parent.is_dir():
        raise ConfigError(f"{out}: there is no folder {out.parent}; make it first")
    if out.is_dir():
        raise ConfigError(f"{out}: is a folder; choose another name")
    refuse_link(out)
    if out.exists() and not options.overwrite:
        raise ConfigError(f"{out}: exists; choose another name or give --overwrite")
    if options.cache is not None:
        _check_cache(run, options.cache)
    if options.missing not in ("chunks", "zero"):
        raise ConfigError(f"--missing {options.missing}: use chunks or zero")
    if options.items < 0:
        raise ConfigError(f"--items {options.items}: use a number from 0")


def _check_cache(run: Path, cache: Path) -> None:
    if cache.exists() and not cache.is_dir():
        raise ConfigError(f"--cache {cache}: is a file; name a folder")
    if lies_in(cache, run):
        raise ConfigError(f"--cache {cache}: is inside the FRet folder, which is finished; choose another place")


def _load(run: Path, options: VectorsOptions) -> Any:
    from gecko_core import Gecko

    name = options.model
    if name is None:
        name = read_json(run / "manifest.json", checksum="sha256").get("config", {}).get("embedder", {}).get("model")
        if not isinstance(name, str):
            raise ConfigError(f"{run}: the manifest does not name the embedder of the build; give one with --model")
    return Gecko.from_pretrained(name, device=options.device)


def _write(
    writer: VectorsWriter, encoded: EncodedFields, weights: dict[str, float], dim: int, options: VectorsOptions
) -> None:
    names = list(encoded.texts)
    for first in range(0, len(names), _DOCUMENTS):
        last = min(first + _DOCUMENTS, len(names))
        rows = {field: encoded.rows(field, first, last) for field in encoded.vectors}
        parts = {
            field: (encoded.at(field, rows[field], dim), encoded.documents[field][rows[field]] - first)
            for field in encoded.vectors
        }
        chunks, owners = parts.pop("chunks")
        used = {field: weight for field, weight in weights.items() if weight}
        vectors = combine(chunks, owners, parts, used, missing=options.missing, normalize=options.normalize)
        chunk_ids = [name for place in range(first, last) for name in encoded.texts[names[place]].chunk_ids]
        writer.write([names[first + place] for place in owners.tolist()], chunk_ids, np.asarray(vectors))


def _described(texts: FieldTexts) -> str:
    counts = texts.counts
    return (
        f"{counts['documents']} documents, {counts['chunks']} chunks, {counts['titles']} titles, {counts['queries']} "
        f"queries for {counts['documents_with_queries']} documents ({texts.queries})"
    )


def _told(items: int, mrr: float, fitted: float, weights: dict[str, float]) -> str:
    if not np.isfinite(mrr):
        return f"weights: only {items} sentences to fit on, or no field but the chunks; all are 0"
    line = f"weights: {shown_weights(weights)}; {items} sentences find their document at MRR {mrr:.3f} by chunks alone"
    if not any(weights[field] for field in FIELDS):
        return f"{line}, at {fitted:.3f} with fitted weights, so that all are 0"
    return f"{line}, at {fitted:.3f} with weights fitted on others"


def _scale(options: VectorsOptions) -> str:
    return "normalised after they were added" if options.normalize else "not normalised (for inner products)"


def _number(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None
