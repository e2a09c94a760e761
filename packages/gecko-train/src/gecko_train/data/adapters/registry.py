"""The adapters by the name that recipes write under ``source``. A new adapter is one line here."""

from __future__ import annotations

from gecko_train.data.adapters.base import Adapter
from gecko_train.data.adapters.classification import CLASSIFICATION
from gecko_train.data.adapters.fever import FEVER
from gecko_train.data.adapters.hotpotqa import HOTPOTQA
from gecko_train.data.adapters.medmcqa import MEDMCQA
from gecko_train.data.adapters.nli import NLI
from gecko_train.data.adapters.pairs import MIRACL, PAIRS
from gecko_train.data.adapters.question_answering import QUESTION_ANSWERING

ADAPTERS: dict[str, Adapter] = {
    "pairs": PAIRS,
    "triplets": PAIRS,
    "qa": QUESTION_ANSWERING,
    "nq": QUESTION_ANSWERING,
    "hotpotqa": HOTPOTQA,
    "fever": FEVER,
    "medmcqa": MEDMCQA,
    "snli": NLI,
    "mnli": NLI,
    "nli": NLI,
    "miracl": MIRACL,
    "classification": CLASSIFICATION,
}
