from gecko_train.config import parse_recipe
from gecko_train.run.steps.fret import BuildFret


def test_files_that_the_build_reads_are_read_by_the_step(tmp_path):
    (tmp_path / "log.txt").write_text("a query\n")
    recipe = parse_recipe({"fret": {"generate": {"sources": ["log"], "log": str(tmp_path / "log.txt")}}})
    assert BuildFret().inputs(recipe)["fret.generate.log"] == tmp_path / "log.txt"
