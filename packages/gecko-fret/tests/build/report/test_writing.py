import json
import re
import shutil

import numpy as np
import pytest

from gecko_core.errors import DataError, ModelError
from gecko_core.io import read_json
from gecko_fret import load_fret
from gecko_fret.build.pipeline import build_fret
from gecko_fret.build.report.base import ReportSection
from gecko_fret.build.report.sections import SECTIONS
from gecko_fret.build.report.writing import report_text, write_report
from gecko_fret.config import parse_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_corpus, make_models):
    out = tmp_path_factory.mktemp("report") / "fret"
    config = {"llm": {"model": "fake"}, "generate": {"seeds": 30, "max_copied": 1.0}, "retrieve": {"candidates": 6}}
    config["mine"] = {"fuse": "rrf"}
    build_fret(parse_config(config), out, corpus=small_corpus, models=make_models())
    return out


def table(text, title):
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"][
        2:
    ]


def test_numbers_are_those_of_the_data(folder):
    text = (folder / "report.md").read_text()
    rows = load_fret(folder)
    survives = {label: int(count) for label, count, _ in table(text, "What survives")}
    assert survives["attempts at a query"] == 60
    assert survives["rows of training data"] == len(rows)
    moved = sum(row.positive.id != row.seed_id for row in rows) / len(rows)
    assert ["positive is not the seed (the paper: about 15%)", f"{moved:.1%}"] in table(text, "Labels")
    assert sum(int(n) for _, n, _ in table(text, "Tasks")) == len(rows)
    assert sum(int(n) for _, n, _ in table(text, "Query lengths")) == len(rows)
    assert sum(int(n) for _, n in table(text, "Agreement of the two scores")) == len(rows)
    ranks = {rank: int(n) for rank, n, _ in table(text, "Where the seed is")}
    assert sum(ranks.values()) == survives["queries that passed the filters"]
    assert sum(n for rank, n in ranks.items() if rank in "1234") == survives["queries with their seed in the top 4"]


def test_best_rows_are_judged_better_than_worst(folder):
    text = (folder / "report.md").read_text()
    label = lambda cells: float(re.match(r"label ([\d.]+)", cells[-1])[1])  # noqa: E731
    best, worst = table(text, "Best rows"), table(text, "Worst rows")
    assert len(best) == len(worst) == 5
    assert min(map(label, best)) >= max(map(label, worst))


def test_html_is_one_page_without_outside_parts(folder):
    page = (folder / "report.html").read_text()
    assert page.count("<table>") >= 8
    assert not re.search(r"<script|https?://|src=", page)


def test_writing_again_gives_the_same_bytes(folder):
    before = [(folder / name).read_bytes() for name in ("report.md", "report.html")]
    assert [path.read_bytes() for path in write_report(folder)] == before


def test_texts_cannot_break_the_page_or_the_table():
    section = ReportSection("<i>T", "n", ("<u>a", "b"), [("<b>|x", 3), ("y", 6)], bar=1)
    page = report_text([section], "report.html")
    assert not re.search("<i>|<u>|<b>", page)
    assert [float(width) for width in re.findall(r"width:([\d.]+)%", page)] == [30, 60]
    assert report_text([section], "report.md") == (
        "# FRet report\n\n## <i>T\n\nn\n\n| &lt;u>a | b |\n|---|---|\n| &lt;b>\\|x | 3 |\n| y | 6 |\n"
    )


def test_a_section_is_one_function_and_one_line(folder, tmp_path, monkeypatch):
    out = tmp_path / "copy"
    shutil.copytree(folder, out)

    def toy(data):
        return [ReportSection("Seeds", "Distinct.", ("seeds",), [(len({row.seed_id for row in data.rows}),)])]

    monkeypatch.setattr("gecko_fret.build.report.writing.SECTIONS", [*SECTIONS, toy])
    write_report(out)
    ((seeds,),) = table((out / "report.md").read_text(), "Seeds")
    assert int(seeds) > 1
    assert "<h2>Seeds</h2>" in (out / "report.html").read_text()


def test_folder_without_a_build_is_one_line(tmp_path):
    with pytest.raises(DataError, match="not a FRet folder"):
        write_report(tmp_path)


def test_real_queries_are_compared_and_the_bytes_repeat(folder, tmp_path, make_models):
    out = tmp_path / "copy"
    shutil.copytree(folder, out)
    before = (out / "report.md").read_bytes()
    rng = np.random.default_rng(0)
    words = [f"real{number}" for number in range(300)]
    (tmp_path / "real.txt").write_text("\n".join(" ".join(rng.choice(words, 6)) for _ in range(60)))
    with pytest.raises(DataError, match="too few written queries"):
        write_report(out, real=tmp_path / "real.txt", embedder=make_models().embedder(None))
    assert (out / "report.md").read_bytes() == before  # nothing half written
    with pytest.raises(DataError, match=r"absent\.txt"):
        write_report(out, real=tmp_path / "absent.txt")
    write_report(out, embed=True, embedder=make_models().embedder(None))
    text = (out / "report.md").read_text()
    assert "cosine of two queries at random" in text
    write_report(out, embed=True, embedder=make_models().embedder(None))
    assert (out / "report.md").read_text() == text


def test_the_builds_own_embedder_is_loaded(folder, tmp_path, monkeypatch):
    asked = []

    def load(config):
        asked.append((config.model, config.device))
        raise ModelError("stop")

    monkeypatch.setattr("gecko_fret.build.report.writing.load_embedder", load)
    out = tmp_path / "copy"
    shutil.copytree(folder, out)
    for first_pass in (False, True):
        manifest = read_json(out / "manifest.json", checksum="sha256")
        manifest["config"]["retrieve"]["first_pass"] = first_pass
        (out / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(ModelError, match="stop"):
            write_report(out, embed=True, device="cpu")
    assert asked == [("all-minilm-l6-v2", "cpu"), (str(out / "first_pass"), "cpu")]
