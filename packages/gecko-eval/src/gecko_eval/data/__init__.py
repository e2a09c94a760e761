"""Judged data on disk: BEIR folders, tables of queries, sentence pairs, labelled texts."""

from __future__ import annotations

from gecko_eval.data.beir import load_beir
from gecko_eval.data.csv_set import load_csv
from gecko_eval.data.fetch import fetch_beir
from gecko_eval.data.qrels import find_qrels, read_qrels
from gecko_eval.data.sets import RetrievalSet, StsSet
from gecko_eval.data.sts import load_sts

__all__ = ["RetrievalSet", "StsSet", "fetch_beir", "find_qrels", "load_beir", "load_csv", "load_sts", "read_qrels"]
