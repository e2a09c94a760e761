import pytest

from gecko_core.errors import BackendError, ConfigError, DataError, GeckoError, ModelError, exit_on_error


@pytest.mark.parametrize("kind", [ConfigError, DataError, ModelError, BackendError])
def test_users_errors_end_in_one_line_and_code_2(kind, capsys):
    with pytest.raises(SystemExit) as ended, exit_on_error():
        raise kind("rows.jsonl:3:\n 'text' is missing")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: rows.jsonl:3: 'text' is missing\n"
    assert issubclass(kind, GeckoError)


def test_debug_lets_the_traceback_through():
    with pytest.raises(DataError), exit_on_error(debug=True):
        raise DataError("x")


def test_interrupt_is_130(capsys):
    with pytest.raises(SystemExit) as ended, exit_on_error():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_bugs_trace():
    with pytest.raises(ZeroDivisionError), exit_on_error():
        _ = 1 / 0
