"""Document-level vectors of a FRet folder: its texts encoded, the weights of fields fitted without labels, one file."""

from __future__ import annotations

from gecko_fret.vectors.encoded import EncodedFields, encode_fields
from gecko_fret.vectors.fitting import FittedWeights, fit_weights
from gecko_fret.vectors.writing import VectorsOptions, write_vectors

__all__ = ["EncodedFields", "FittedWeights", "VectorsOptions", "encode_fields", "fit_weights", "write_vectors"]
