"""What the recipes of these tests have in common."""

import pytest


@pytest.fixture
def small_recipe(tiny_backbone, corpus_file, tmp_path):
    """Values of a recipe without its training: the tiny backbone on the small corpus, in the folder ``run``."""
    return {
        "name": "tiny",
        "output": str(tmp_path / "run"),
        "corpus": {"path": str(corpus_file)},
        "student": {"model": str(tiny_backbone), "backbone": True, "dims": [32, 16], "max_seq_length": 64},
        "evaluation": {"queries": 10, "max_documents": 30},
    }
