import io
import json

from rich.console import Console

from gecko_train.loop.watch import Watch, clock, read_metrics

METRICS = {"set": "a", "loss": 1.5, "tokens_per_second": 1000.0, "learning_rate": 1e-5, "gradient_norm": 0.5}


def test_a_log_gets_plain_lines_and_the_folder_numbers_and_curves(tmp_path):
    screen = io.StringIO()
    with Watch(tmp_path, "fine-tune", 3, console=Console(file=screen, width=120), seconds=0) as watch:
        for step in (1, 2, 3):
            watch.step(step, METRICS)
    lines = screen.getvalue().splitlines()
    assert lines[0].startswith("fine-tune: step 1/3  loss 1.500  1,000 tok/s  eta 0:00")
    assert "\x1b" not in screen.getvalue()
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_resumed_run_leaves_each_step_once_and_survives_a_torn_line(tmp_path):
    with (tmp_path / "metrics.jsonl").open("w") as file:
        for step in (1, 2, 3, 4):
            file.write(json.dumps({"step": step, **METRICS}) + "\n")
        file.write('{"step": 5, "lo')
    with Watch(tmp_path, "t", 4, done=2, console=Console(file=io.StringIO())) as watch:
        watch.step(3, METRICS)
        watch.step(4, {**METRICS, "set": "b"})
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


def test_a_terminal_gets_a_bar(tmp_path):
    screen = io.StringIO()
    with Watch(tmp_path, "t", 2, console=Console(file=screen, force_terminal=True, width=120)) as watch:
        watch.step(1, METRICS)
        watch.step(2, METRICS)
    assert "2/2" in screen.getvalue()
    assert "loss 1.500" in screen.getvalue()


def test_clock():
    assert [clock(5), clock(65), clock(3725)] == ["0:05", "1:05", "1:02:05"]
