import io
import json

from rich.console import Console

from gecko_train.loop.watch import Watch, read_metrics, summarise

METRICS = {"set": "a", "loss": 1.5, "tokens_per_second": 1000.0, "learning_rate": 1e-5, "gradient_norm": 0.5}


def test_a_log_gets_plain_lines_and_the_folder_numbers_and_curves(tmp_path):
    screen = io.StringIO()
    with Watch(tmp_path, "fine-tune", 3, console=Console(file=screen, width=120), seconds=0) as watch:
        for step in (1, 2, 3):
            watch.step(step, METRICS)
    lines = screen.getvalue().splitlines()
    assert "fine-tune loss 1.500  1,000 tok/s, 1 of 3 steps, 0 s left" in lines
    assert lines[-1] == "fine-tune loss 1.500  1,000 tok/s, done, 3 steps in 0 s"
    assert "\x1b" not in screen.getvalue()
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_resumed_run_leaves_each_step_once_and_survives_a_torn_line(tmp_path):
    with (tmp_path / "metrics.jsonl").open("w") as file:
        for step in (1, 2, 3, 4):
            file.write(json.dumps({"step": step, **METRICS}) + "\n")
        file.write('{"step": 5, "lo')
    screen = io.StringIO()
    with Watch(tmp_path, "t", 4, done=2, console=Console(file=screen)) as watch:
        watch.step(3, METRICS)
        watch.step(4, {**METRICS, "set": "b"})
    assert "2 of 4 steps done before" in screen.getvalue()
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


def test_a_terminal_gets_a_bar(tmp_path):
    screen = io.StringIO()
    with Watch(tmp_path, "t", 2, console=Console(file=screen, force_terminal=True, width=120)) as watch:
        watch.step(1, METRICS)
        watch.step(2, METRICS)
    assert "2/2" in screen.getvalue()
    assert "loss 1.500" in screen.getvalue()


def test_the_summary_has_the_first_and_last_tenth_of_the_losses():
    lines = [{"loss": float(n), "rows": 4, "tokens": 10, "seconds": 2.0, "waited": 0.5} for n in range(20)]
    summary = summarise(lines, 20, best=7)
    assert (summary.first_loss, summary.last_loss, summary.best_step) == (0.5, 18.5, 7)
    assert (summary.rows, summary.tokens, summary.seconds, summary.waiting) == (80, 200, 40.0, 0.25)


def test_lines_that_lack_a_number_are_passed_over(tmp_path):
    """A key that one bit had changed ended the run, at every start."""
    whole = {"set": "a", "loss": 2.0, "rows": 4, "tokens": 10, "seconds": 2.0, "waited": 0.5}
    renamed = {("waitec" if key == "waited" else key): value for key, value in whole.items()}
    lines = [whole, renamed, {**whole, "tokens": "x"}, {**whole, "loss": None}, {**whole, "loss": 4.0}]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step, **line}) + "\n" for step, line in enumerate(lines, 1)))
    found = read_metrics(path)
    assert [line["step"] for line in found] == [1, 2, 5]
    summary = summarise(found, 5, None)
    assert (summary.first_loss, summary.last_loss, summary.rows, summary.tokens) == (2.0, 4.0, 8, 20)
