import pyarrow as pa
import pytest

from gecko_core.errors import DataError
from gecko_fret.build.folder import Workspace
from gecko_fret.config import parse_config
from gecko_fret.steps import STEPS

TEXT = pa.string()
CANDIDATE = pa.struct(
    [
        ("id", TEXT),
        ("similarity", pa.float32()),
        ("ql", pa.float32()),
        ("rc", pa.float32()),
        ("rank_ql", pa.int32()),
        ("rank_rc", pa.int32()),
        ("fused", pa.float64()),
    ]
)
# Format 1 of FRet folders, which other tools read: folders, columns and their types.
FORMAT_1 = {
    "corpus": [(name, pa.large_string()) for name in ("id", "title", "text", "source")],
    "attempts": [
        *[("id", TEXT), ("seed_id", TEXT), ("attempt", pa.int32()), ("kind", TEXT), ("generator", TEXT)],
        *[("text", TEXT), ("logprob", pa.float32()), ("tokens", pa.int32()), ("finished", pa.bool_())],
    ],
    "generated": [
        *[("id", TEXT), ("seed_id", TEXT), ("attempt", pa.int32()), ("kind", TEXT), ("task", TEXT)],
        *[("query", TEXT), ("generator", TEXT), ("logprob", pa.float32())],
    ],
    "retrieved": [
        *[("query_id", TEXT), ("seed_rank", pa.int32())],
        *[("candidate_ids", pa.list_(TEXT)), ("similarities", pa.list_(pa.float32()))],
    ],
    "scored": [("query_id", TEXT), ("candidate_id", TEXT), ("ql", pa.float32()), ("rc", pa.list_(pa.float32()))],
    "fret": [
        *[("id", TEXT), ("task", TEXT), ("query", TEXT), ("positive_id", TEXT), ("negative_ids", pa.list_(TEXT))],
        *[("seed_id", TEXT), ("seed_rank", pa.int32()), ("candidates", pa.list_(CANDIDATE))],
    ],
}


def test_folders_and_columns_are_those_of_format_one():
    config = parse_config({"mine": {"fuse": "rrf"}})
    schemas = {step.folder: step.layout(config).schema for step in STEPS if step.folder in FORMAT_1}
    assert schemas == {folder: pa.schema(columns) for folder, columns in FORMAT_1.items()}


def test_an_empty_folder_counts_nothing(tmp_path):
    workspace = Workspace(tmp_path)
    assert set(workspace.counts().values()) == {0}
    assert workspace.reject_counts() == {}
    assert workspace.token_counts() == {"enrich": {}, "write": {}, "measure": {}, "score": {}}


def test_a_damaged_manifest_is_one_line_with_the_cure(tmp_path):
    (tmp_path / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"manifest\.json: cannot be read as JSON .*; restore it, or choose another"):
        Workspace(tmp_path).read_manifest()
