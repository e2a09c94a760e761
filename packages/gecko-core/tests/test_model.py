import numpy as np
import pytest
import torch

from gecko_core import Gecko
from gecko_core.errors import ConfigError, DataError


def test_real_model_finds_the_nearest_text(minilm):
    documents = ["The tokay is a large gecko.", "Interest rates rose again.", "Bread needs flour, water and salt."]
    scores = minilm.similarity(minilm.encode_queries(["lizard", "baking"]), minilm.encode_documents(documents))
    assert scores.argmax(axis=1).tolist() == [0, 2]


def test_forward_is_the_mean_over_valid_tokens_not_normalised(tiny, sentences):
    batch = tiny.collate(tiny.tokenize(sentences[:8]))
    with torch.no_grad():
        found = tiny(**batch)
        hidden = tiny.backbone(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    torch.testing.assert_close(found, (hidden * mask).sum(1) / mask.sum(1))
    assert (found.norm(dim=1) - 1).abs().min() > 1e-3


def test_gecko_style(tiny):
    assert tiny.prompt_style == "gecko"
    assert tiny.format_queries(["q"], "fact checking") == ["task: fact checking | query: q"]
    assert tiny.format_documents(["d", "e"], ["t", None]) == ["title: t | text: d", "title: none | text: e"]
    assert tiny.format_documents(["d"]) == ["title: none | text: d"]


def test_plain_style_is_settable(minilm, sentences):
    assert minilm.prompt_style == "plain"
    assert minilm.format_queries(["q"], "fact checking") == ["q"]
    assert minilm.format_documents(["d", "e", ""], ["t", None, "t"]) == ["t d", "e", "t"]
    assert minilm.format_documents([" d\n", " e"], ["t ", None]) == ["t   d", " e"]
    assert minilm.format_documents([" d\n"]) == minilm.format_documents([" d\n"], [""]) == [" d\n"]
    minilm.prompt_style = "gecko"
    try:
        assert minilm.format_queries(["q"]) == ["task: search result | query: q"]
    finally:
        minilm.prompt_style = "plain"


def test_every_way_to_encode_is_the_formatted_text_encoded(tiny, sentences):
    plain = tiny.encode(tiny.format_queries(sentences, "fact checking"))
    assert np.array_equal(tiny.encode_queries(sentences, "fact checking"), plain)
    assert np.array_equal(tiny.encode(sentences, task="fact checking"), plain)
    assert np.array_equal(tiny.encode_documents(sentences), tiny.encode(tiny.format_documents(sentences)))


def test_titles_must_match_documents(tiny):
    with pytest.raises(ConfigError, match="2 documents but 1 titles"):
        tiny.encode_documents(["a", "b"], ["t"])
    with pytest.raises(DataError, match="row 1: document is int"):
        tiny.encode_documents(["a", 3])
    with pytest.raises(DataError, match="row 0: title is float"):
        tiny.encode_documents(["a"], [0.5])


def test_saving_refuses_dims_that_are_not_the_models(tiny, tmp_path):
    with pytest.raises(ConfigError, match="own width, 32"):
        tiny.save_pretrained(tmp_path / "m", dims=(16, 8))
    assert not (tmp_path / "m").exists()


def test_truncate_dim_as_a_default(tiny, sentences, tmp_path):
    folder = tiny.save_pretrained(tmp_path / "m")
    short = Gecko.from_pretrained(folder, device="cpu", dtype="float32", truncate_dim=8)
    assert abs(short.encode(sentences) - tiny.encode(sentences, truncate_dim=8)).max() < 1e-6
    assert short.encode(sentences, truncate_dim=32).shape == (100, 32)
    assert short.identity() != Gecko.from_pretrained(folder, device="cpu", dtype="float32").identity()
    short.save_pretrained(tmp_path / "short")
    again = Gecko.from_pretrained(tmp_path / "short", device="cpu", dtype="float32")
    assert (again.truncate_dim, again.identity()) == (8, short.identity())
    with pytest.raises(ConfigError, match="truncate_dim"):
        Gecko.from_pretrained(folder, truncate_dim=33)


def test_similarity_and_truncate_keep_the_kind(tiny, sentences):
    a, b = tiny.encode(sentences[:3]), tiny.encode(sentences[:5], output="torch")
    assert isinstance(tiny.similarity(a, b), np.ndarray)
    assert isinstance(tiny.similarity(b, a), torch.Tensor)
    assert tiny.similarity(a, b).shape == (3, 5)
    assert abs(np.diag(tiny.similarity(a * 7, b)) - 1).max() < 1e-6
    assert isinstance(tiny.truncate(b, 8), torch.Tensor)
    with pytest.raises(ConfigError, match="from 1 to 32"):
        tiny.truncate(a, 40)


def test_weights_hash_follows_the_weights(own, tiny):
    before = own.weights_hash()
    assert before == tiny.weights_hash()
    with torch.no_grad():
        next(own.parameters()).view(-1)[0] += 1e-3
    assert own.weights_hash() != before


def test_weights_hash_of_a_bf16_file_does_not_depend_on_the_dtype_it_is_loaded_in(backbone_folder, tmp_path):
    half = Gecko.from_backbone(backbone_folder("bert"), dims=(32,), device="cpu", dtype="bfloat16")
    folder = half.save_pretrained(tmp_path / "m")
    assert Gecko.from_pretrained(folder, dtype="bfloat16").weights_hash() == half.weights_hash()
    assert Gecko.from_pretrained(folder).weights_hash() == half.weights_hash()


def test_one_training_step_lowers_the_loss(own, sentences):
    own.train()
    trained = [p for p in own.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    batch = own.collate(own.tokenize(sentences[:16]))
    losses = []
    torch.manual_seed(0)
    for _ in range(5):
        own.eval()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            pooled = own(**batch).float()
        loss = (pooled - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


def test_max_seq_length_is_capped_by_the_backbone(backbone_folder):
    assert Gecko.from_backbone(backbone_folder("bert"), dims=(32,), max_seq_length=1000).max_seq_length == 66
    assert Gecko.from_backbone(backbone_folder("roberta"), dims=(32,), max_seq_length=1000).max_seq_length == 64
    assert Gecko.from_backbone(backbone_folder("t5"), dims=(32,), max_seq_length=1000).max_seq_length == 1000
    assert Gecko.from_backbone(backbone_folder("t5"), dims=(32,)).max_seq_length == 512


def test_enriched_texts_are_encoded_in_the_place_of_theirs(tiny):
    enriched = {"a gecko": "the tokay barks", "night": "the gecko sleeps by day"}
    titles = ["a lizard", None]
    found = tiny.encode_documents(["a gecko", "walls"], titles, enriched=enriched)
    assert np.array_equal(found, tiny.encode_documents(["the tokay barks", "walls"], titles))
    assert np.array_equal(tiny.encode_queries("night", enriched=enriched), tiny.encode_queries(enriched["night"]))
    with pytest.raises(DataError, match="documents must come as a list"):
        tiny.encode_documents(b"a gecko", enriched=enriched)
    with pytest.raises(DataError, match="row 1: document is int"):
        tiny.encode_documents(["a gecko", 3], enriched=enriched)


def test_numbers_that_cannot_be_meant(backbone_folder, own):
    for length in (-5, 0, float("nan"), "9", True):
        with pytest.raises(ConfigError, match="max_seq_length must be a positive whole number"):
            Gecko.from_backbone(backbone_folder("bert"), dims=(32,), max_seq_length=length)
    with pytest.raises(ConfigError, match="seed must be a whole number"):
        Gecko.from_backbone(backbone_folder("bert"), dims=(16,), seed=10**30)
    for tokens in ("5", True, 1.5):
        with pytest.raises(ConfigError, match="batch_tokens must be"):
            own.encode(["a gecko"], batch_tokens=tokens)
    with pytest.raises(ConfigError, match="vectors of 32 components have no similarity to those of 8"):
        own.similarity(np.ones((1, 32)), np.ones((1, 8)))


def test_a_task_with_half_of_a_surrogate_pair(own):
    assert own.format_queries(["q"], "\udcff") == ["task: \ufffd | query: q"]
    with pytest.raises(DataError, match="task is int"):
        own.format_queries(["q"], 7)


def test_similarity_and_truncate_take_what_search_takes(own):
    a = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    expected = own.similarity(a, a)
    assert np.array_equal(own.similarity(a, a[::-1]), expected[:, ::-1])
    assert np.array_equal(own.truncate(np.flip(a, 0), 8), own.truncate(a, 8)[::-1])
    grown = torch.from_numpy(a).requires_grad_()
    for same in (a.tolist(), a.astype(">f4"), a * np.float32(1e-15), a.astype(np.float64) * 1e-140, grown):
        assert abs(own.similarity(a, same) - expected).max() < 1e-6
        assert abs(own.truncate(a, 8) - np.array(own.truncate(same, 8).tolist())).max() < 1e-6
    assert isinstance(own.truncate(a.tolist(), 8), np.ndarray)
    assert own.similarity(grown, a).requires_grad
    assert own.similarity(a[0], a).shape == (3,)
    with pytest.raises(ConfigError, match="from 1 to 32"):
        own.truncate(a.tolist(), 33)
    with pytest.raises(ConfigError, match="b must have two dimensions"):
        own.similarity(a, a[None])


def test_similarity_and_truncate_refuse_what_search_refuses(own):
    good, bad = np.ones((2, 32), dtype=np.float32), np.ones((2, 32))
    for wrong, message in (
        (np.nan, "is not finite"),
        (np.inf, "is not finite"),
        (1e20, "too long"),
        (1e200, "too long"),
    ):
        bad[1, 3] = wrong
        with pytest.raises(DataError, match=f"similarity: b: row 1 .*{message}"):
            own.similarity(good, bad)
        with pytest.raises(DataError, match=f"truncate: row 1 .*{message}"):
            own.truncate(bad, 8)
    assert not own.similarity(good, good * 0).any()
    assert not own.truncate(good * 0, 8).any()


def test_titles_are_any_iterable_as_texts_are(own):
    expected = own.format_documents(["a", "b"], ["t", None])
    assert own.format_documents(iter(["a", "b"]), iter(["t", None])) == expected
    assert own.format_documents(["a", "b"], np.array(["t", ""])) == expected
    assert own.encode_documents(["a", "b"], titles=iter(["t", None])).shape == (2, 32)
    with pytest.raises(ConfigError, match="2 documents but 1 titles"):
        own.format_documents(["a", "b"], iter(["t"]))
    with pytest.raises(DataError, match="titles must come as a list of str, not as ndarray"):
        own.format_documents(["a"], np.array("t"))


def test_arguments_of_another_kind_are_told_in_one_line(own, tmp_path):
    own.save_pretrained(tmp_path / "m")
    for device in (True, 1.5, ["cpu"]):
        with pytest.raises(ConfigError, match="is not a device; use 'cpu'"):
            Gecko.from_pretrained(tmp_path / "m", device=device)
    for devices in (5, 0, "cpu"):
        with pytest.raises(ConfigError, match="devices must be a list such as"):
            own.encode(["a gecko"], devices=devices)
    with pytest.raises(ConfigError, match="devices is empty"):
        own.encode(["a gecko"], devices=[])
    for encode in (own.encode, own.encode_queries, own.encode_documents):
        with pytest.raises(
            DataError, match=r"must come as a list of str, not as ndarray; wrap the single \w+ in \[ \]"
        ):
            encode(np.array("alpha"))
        with pytest.raises(ConfigError, match="progress must be True, False or"):
            encode(["a gecko"], progress="yes")


def test_whole_numbers_of_numpy(backbone_folder, tmp_path):
    numbers = {"dims": np.array([16, 8]), "max_seq_length": np.int64(20), "seed": np.int64(3)}
    model = Gecko.from_backbone(backbone_folder("bert"), device="cpu", dtype="float32", **numbers)
    assert model.dims == (16, 8)
    folder = model.save_pretrained(tmp_path / "m", dims=np.array([16]))
    again = Gecko.from_pretrained(folder, device="cpu", dtype="float32", truncate_dim=np.int64(8))
    assert (again.dims, again.max_seq_length) == ((16,), 20)
    assert again.encode_stream(["a gecko"], tmp_path / "x.npy", window=np.int64(2), truncate_dim=np.int64(8)) == 1
    for wrong in ((True,), (8.0,), (np.float64(8),), (), 8):
        with pytest.raises(ConfigError, match="dims must be positive whole numbers"):
            Gecko.from_backbone(backbone_folder("bert"), dims=wrong)
