import yaml

from gecko_core.folder.card import model_card


def metadata(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_card_says_how_to_use_the_model(tiny):
    card = model_card(tiny, None, (32, 8))
    assert "Gecko.from_pretrained" in card
    assert "SentenceTransformer(" in card
    assert "task: {task} | query: {text}" in card
    assert "also at 8 dimensions" in card
    assert metadata(card)["library_name"] == "sentence-transformers"
    assert "model-index" not in metadata(card)


def test_scores_go_into_table_and_metadata(tiny):
    scores = [{"task": "Retrieval", "dataset": "SciFact", "metric": "ndcg_at_10", "value": 0.61234, "dim": 32}]
    card = model_card(tiny, {"name": "tiny-gecko", "scores": scores, "seed": 3}, (32, 8))
    assert "| Retrieval | SciFact | 32 | ndcg_at_10 | 0.6123 |" in card
    index = metadata(card)["model-index"][0]
    assert index["name"] == "tiny-gecko"
    assert index["results"][0]["metrics"][0]["value"] == 0.61234


def test_record_is_printed(tiny, tmp_path):
    card = model_card(tiny, {"recipe": "quickstart", "stages": {"fret": {"rows": 12, "path": tmp_path}}}, (32,))
    body = card.split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(body)["stages"]["fret"] == {"rows": 12, "path": str(tmp_path)}


def test_a_plain_model_does_not_ask_for_formats(minilm):
    assert "task: {task}" not in model_card(minilm, None, (384,))
