"""The order of documents that score the same: trec_eval's, which mteb follows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def tie_order(doc_ids: Sequence[str]) -> np.ndarray:
    """(n,) int64, for ``ties`` of `gecko_core.search.TopK`: of equal scores the larger document id comes first.

    trec_eval sorts that way before it cuts a ranking, so a ranking in this order scores the same here and in mteb.
    """
    order = sorted(range(len(doc_ids)), key=lambda i: doc_ids[i], reverse=True)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place
