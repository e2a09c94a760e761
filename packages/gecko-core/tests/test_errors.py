import pytest

from gecko_core.errors import BackendError, ConfigError, DataError, GeckoError, ModelError, exit_on_error, printable


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


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "a b"),
            "error: a b: No such file or directory; look for a misspelt name; --debug",
        ),
        (
            PermissionError(13, "Permission denied", "a"),
            "error: a: Permission denied; see its permissions and those of its folder, or name another path; --debug",
        ),
        (OSError(30, "Read-only file system", "a"), "error: a: Read-only file system; nothing can be written there;"),
        (
            OSError(103, "Software caused connection abort"),
            "error: input or output: Software caused connection abort; --",
        ),
        (OSError("no more"), "error: no more; --debug"),
        (MemoryError(), "error: the memory is used up (MemoryError)"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] can't allocate memory"), "error: the memory is used up"),
        (RuntimeError("could not create a primitive"), "error: the memory is used up"),
        (RuntimeError("Symlink loop from '/a/b'"), "error: '/a/b': its links go in a circle; name the file itself"),
        (RecursionError("maximum recursion depth"), "error: RecursionError: maximum recursion depth; unexpected"),
        (ValueError("two\nlines"), "error: ValueError: two; unexpected"),
        (ZeroDivisionError("division by zero"), "error: ZeroDivisionError: division by zero; unexpected"),
    ],
)
def test_everything_else_is_one_line_too(error, line, capsys):
    with pytest.raises(SystemExit) as ended, exit_on_error():
        raise error
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith(line)
    assert shown.count("\n") == 1
    with pytest.raises(type(error)), exit_on_error(debug=True):
        raise error


def test_what_a_terminal_obeys_is_shown_as_text(capsys):
    with pytest.raises(SystemExit), exit_on_error():
        raise ConfigError("a\x1b[31mb [/red]")
    assert capsys.readouterr().err == "error: a\\x1b[31mb [/red]\n"


@pytest.mark.parametrize("backend", ["foo", "triton"])
def test_a_backend_of_the_kernels_that_cannot_be_had_is_the_users_to_correct(backend, monkeypatch, capsys):
    import torch

    from gecko_kernels import masked_mean_pool

    monkeypatch.setenv("GECKO_KERNELS_BACKEND", backend)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(SystemExit) as ended, exit_on_error():
        masked_mean_pool(torch.zeros(1, 2, 3), torch.ones(1, 2))
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("error: GECKO_KERNELS_BACKEND")
    assert "report" not in line


def test_printable_text_has_no_control_characters():
    assert printable("a\n\x1b[31mб\u202e") == "a\\n\\x1b[31mб\\u202e"


def test_a_panic_of_a_library_in_rust_is_one_line_too(capsys):
    panic = type("PanicException", (BaseException,), {})  # what tokenizers raises; nobody exports it
    with pytest.raises(SystemExit) as ended, exit_on_error():
        raise panic("no entry found for key")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(
        "error: PanicException: no entry found for key; unexpected: please report"
    )
    with pytest.raises(GeneratorExit), exit_on_error():
        raise GeneratorExit
