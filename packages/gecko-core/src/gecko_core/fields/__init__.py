"""Document-level vectors: a document's chunks, title and written queries in the vectors that an index keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_core.lazy import lazy_exports

if TYPE_CHECKING:
    from gecko_core.fields.combining import Missing, combine, field_means
    from gecko_core.fields.searching import best_of_documents, search_documents
    from gecko_core.fields.stored import DocumentVectors, VectorsWriter, read_vectors
    from gecko_core.fields.texts import QUERIES, DocumentTexts, FieldTexts, Queries, document_of, read_fields
    from gecko_core.fields.weights import FIELDS, PUBLISHED, parse_weights, shown_weights

__all__ = [
    "FIELDS",
    "PUBLISHED",
    "QUERIES",
    "DocumentTexts",
    "DocumentVectors",
    "FieldTexts",
    "Missing",
    "Queries",
    "VectorsWriter",
    "best_of_documents",
    "combine",
    "document_of",
    "field_means",
    "parse_weights",
    "read_fields",
    "read_vectors",
    "search_documents",
    "shown_weights",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "FIELDS": "gecko_core.fields.weights",
        "PUBLISHED": "gecko_core.fields.weights",
        "QUERIES": "gecko_core.fields.texts",
        "DocumentTexts": "gecko_core.fields.texts",
        "DocumentVectors": "gecko_core.fields.stored",
        "FieldTexts": "gecko_core.fields.texts",
        "Missing": "gecko_core.fields.combining",
        "Queries": "gecko_core.fields.texts",
        "VectorsWriter": "gecko_core.fields.stored",
        "best_of_documents": "gecko_core.fields.searching",
        "combine": "gecko_core.fields.combining",
        "document_of": "gecko_core.fields.texts",
        "field_means": "gecko_core.fields.combining",
        "parse_weights": "gecko_core.fields.weights",
        "read_fields": "gecko_core.fields.texts",
        "read_vectors": "gecko_core.fields.stored",
        "search_documents": "gecko_core.fields.searching",
        "shown_weights": "gecko_core.fields.weights",
    },
    __all__,
)
