from gecko_train.config import parse_recipe
from gecko_train.run.inputs import content_hash, corpus_input, made_hashes, stage_inputs, student_input


def make(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def test_the_content_of_a_folder_counts_and_not_its_place(tmp_path):
    one, other = (make(tmp_path / name, a_txt="x", deep__b_txt="y") for name in ("one", "other"))
    assert content_hash(one) == content_hash(other)
    for change in ({"a_txt": "z"}, {"c_txt": ""}, {"README_md": "a passage"}):
        changed = make(tmp_path / f"changed-{len(list(tmp_path.iterdir()))}", a_txt="x", deep__b_txt="y")
        make(changed, **change)
        assert content_hash(changed) != content_hash(one)
    (other / ".lock").touch()
    assert content_hash(other) == content_hash(one)
    assert content_hash(tmp_path / "nothing") is None
    assert content_hash(one / "a.txt") != content_hash(one / "deep" / "b.txt")


def test_hidden_texts_are_passages_and_a_configuration_makes_no_model(tmp_path):
    corpus = make(tmp_path / "corpus", a_txt="x", config_json="{}", README_md="a passage")
    before = content_hash(corpus)
    make(corpus, README_md="another passage")
    assert content_hash(corpus) != before
    before = content_hash(corpus)
    (corpus / ".hidden.md").write_text("a hidden passage")
    assert content_hash(corpus) != before


def test_what_describes_a_model_or_a_build_does_not_count(tmp_path):
    model = make(tmp_path / "model", config_json="{}", model_safetensors="w", README_md="card")
    before = content_hash(model)
    make(model, README_md="another card")
    assert content_hash(model) == before
    make(model, config_json="{ }")
    assert content_hash(model) != before
    fret = make(tmp_path / "fret", manifest_json="{}", fret__part_parquet="rows", corpus__part_parquet="passages")
    before = content_hash(fret)
    make(fret, manifest_json='{"seconds": 1}', report_html="<p>")
    assert content_hash(fret) == before
    make(fret, fret__part_parquet="other rows")
    assert content_hash(fret) != before


def test_weights_and_files_are_what_a_step_makes(tmp_path):
    make(tmp_path, model__model_safetensors="w", model__deep__model_safetensors="v", model__a_json="{}", r_json="{}")
    made = made_hashes(tmp_path, ["model", "r.json", "nothing"])
    assert sorted(made) == ["model/deep/model.safetensors", "model/model.safetensors", "r.json"]


def test_of_a_model_every_file_counts_but_its_card(tmp_path):
    make(
        tmp_path, model__model_safetensors="w", model__modules_json="[]", model__pooling__config_json="{}",
        model__README_md="# card", model__gecko_json="{}",
    )  # fmt: skip
    made = made_hashes(tmp_path, ["model"])
    assert sorted(made) == ["model/model.safetensors", "model/modules.json", "model/pooling/config.json"]


def test_a_stage_reads_its_sets_its_teacher_and_what_it_is_evaluated_on(tmp_path):
    make(tmp_path / "teacher", config_json="{}")
    recipe = parse_recipe(
        {
            "student": {"model": str(tmp_path / "teacher")},
            "finetune": {
                "sets": [
                    {"source": "triplets", "path": "rows.jsonl"},
                    {"source": "triplets", "path": "hub:a/b", "name": "b"},
                    {"source": "texts", "options": {"kinds": ["queries"], "queries": "log.txt"}},
                ],
                "teacher": str(tmp_path / "teacher"),
                "objective": {"matching": {"weight": 1.0}},
                "trainer": {"evaluate": {"sets": ["judged"]}},
            },
        }
    )
    inputs = stage_inputs("finetune", recipe.finetune)
    assert sorted(inputs) == [
        "finetune.sets.0",
        "finetune.sets.2.options.queries",
        "finetune.teacher",
        "finetune.trainer.evaluate.sets.0",
    ]
    assert student_input(recipe.student) == {"student.model": tmp_path / "teacher"}
    assert student_input(recipe.student.model_copy(update={"model": "no-such-model-at-all"})) == {}
    assert corpus_input(None) == corpus_input("hub:a/b") == {}
    assert list(corpus_input("c.jsonl")) == ["the corpus"]
