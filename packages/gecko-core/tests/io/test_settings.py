from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field

from gecko_core.errors import ConfigError
from gecko_core.io import Override, Section, dump_settings, load_settings, parse_settings, read_yaml

#: Nine lines that stand for a billion values.
BILLIONS = "".join(f"x{i}: &x{i} [{','.join(['y' if not i else f'*x{i - 1}'] * 10)}]\n" for i in range(9))


class Loop(Section):
    batch_size: int = Field(64, ge=2)
    rate: float | None = None
    renamed: ClassVar = {"lr": "rate"}


class Example(Section):
    name: str = "example"
    loop: Loop = Loop()
    sets: list[Loop] = Field(default_factory=list)


class Wrong(Section):
    loop: Loop = Field(default_factory=lambda: {"batch_size": 1})


def test_file_overrides_and_dump(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("loop: {batch_size: 8}\nsets: [{}, {rate: 0.5}]\n")
    found = load_settings(Example, path, ["loop.rate=1e-1", "sets.1.batch_size=4", "name=null-ish"])
    assert (found.loop.batch_size, found.loop.rate, found.sets[1].batch_size, found.name) == (8, 0.1, 4, "null-ish")
    path.write_text(dump_settings(found))
    assert load_settings(Example, path) == found
    path.write_text("")
    assert load_settings(Example, path) == load_settings(Example) == Example()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loop": {"batchsize": 3}}, "x: unknown key 'loop.batchsize'; did you mean 'batch_size'? (known here: "),
        ({"sets": [{}, {"rates": 3}]}, "x: unknown key 'sets.1.rates'; did you mean 'rate'?"),
        ({"loop": {"lr": 3}}, "x: loop: the key 'lr' is now called 'rate'; rename it"),
        ({"loop": {"batch_size": 1}}, "x: loop.batch_size: input should be greater than or equal to 2 (given: 1)"),
        ({"loop": {"batch_size": 1}, "nam": 1}, "(and 1 more)"),
        ([], "x: input should be a valid dictionary"),
    ],
)
def test_wrong_values_are_one_line_with_the_key(values, message):
    with pytest.raises(ConfigError) as caught:
        parse_settings(Example, values, "x")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loop", "write it as section.key=value"),
        ("=3", "write it as section.key=value"),
        ("name.first=3", "name is a value and has no keys below it"),
        ("sets.2.rate=3", "'2' is not an index below 1 of that list"),
        ("sets.².rate=3", "'²' is not an index below 1 of that list"),
        ("name=[", "the value is not valid YAML"),
        ("name=2026-13-45", "'name=2026-13-45': the value is not valid YAML; quote it"),
        ("name={a: 1, a: 2}", "the value is not valid YAML"),
        ("name=" + "1" * 5000, "the value is not valid YAML"),
        ("name=" + "[" * 5000, "the value is not valid YAML"),
    ],
)
def test_wrong_overrides(tmp_path, override, message):
    path = tmp_path / "a.yaml"
    path.write_text("name: x\nsets: [{}]\n")
    with pytest.raises(ConfigError, match=message):
        load_settings(Example, path, [override])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "not valid YAML"),
        (b"- 1", "holds a list; a recipe is keys with values"),
        (b"a: \xff", r"not UTF-8 \(byte 3\)"),
        (b"a: 1\nb: {c: 1, c: 2}", r"not valid YAML \(line 2: the key 'c' occurs twice; remove one\)"),
        (b"a: &a [*a]", r"line 1: the alias stands for a value that holds itself"),
        (b'a: "\\uD800"', r"line 1: half of a surrogate pair"),
        (BILLIONS.encode(), r"line \d: more than 100,000 values with all aliases written out"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "not valid YAML"),
        (b"a: 2026-13-45", r"not valid YAML \(month must be in 1\.\.12\)"),
        (None, "no such recipe file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, content, message):
    path = tmp_path / "a.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_yaml(path, "recipe")
    with pytest.raises(ConfigError, match="is a folder"):
        read_yaml(tmp_path)


def test_aliases_and_merge_keys_are_fine(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("one: &one {a: 1, b: 2}\ntwo: {<<: *one, b: 3}\nthree: *one\n")
    assert read_yaml(path) == {"one": {"a": 1, "b": 2}, "two": {"a": 1, "b": 3}, "three": {"a": 1, "b": 2}}


def test_what_an_earlier_version_dumped_is_read_under_the_new_names():
    class Term(Section):
        weight: float = 0.0

    class Part(Section):
        renamed: ClassVar = {"kl_weight": "kl.weight", "old": "new"}
        kl: Term = Field(default_factory=Term)
        new: int = 1

    class Whole(Section):
        renamed: ClassVar = {"part": "parts"}
        parts: list[Part] = Field(default_factory=list)
        one: Part | None = None

    dumped = {"part": [{"kl_weight": 0.5, "old": None}, {"new": 3}], "one": {"old": 7, "kl": {"weight": 1.0}}}
    upgraded = Whole.model_validate(Whole.upgrade(dumped))
    assert upgraded.parts == [Part(kl=Term(weight=0.5)), Part(new=3)]
    assert upgraded.one == Part(new=7, kl=Term(weight=1.0))
    assert dumped["part"][0] == {"kl_weight": 0.5, "old": None}
    assert Whole.upgrade(upgraded.model_dump()) == upgraded.model_dump()


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_numbers_that_are_none_are_refused(value):
    with pytest.raises(ConfigError, match=r"loop\.rate: .*finite number"):
        load_settings(Example, None, [f"loop.rate={value}"])


def test_whole_numbers_fit_into_64_bits():
    assert load_settings(Example, None, [f"loop.batch_size={2**63 - 1}"]).loop.batch_size == 2**63 - 1
    with pytest.raises(ConfigError, match="batch_size: a whole number of more than 64 bits cannot be meant"):
        load_settings(Example, None, [f"loop.batch_size={2**63}"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loop.batchsize=3"], "--set 'loop.batchsize=3': unknown key 'loop.batchsize'; did you mean 'batch_size'?"),
        (["name=b", "loop.batch_size=1", "loop.rate=1"], "--set 'loop.batch_size=1': loop.batch_size: input should be"),
        (["loop.batch_size=1", "loop.batch_size=0"], "--set 'loop.batch_size=0': loop.batch_size: "),
        ([f"loop.batch_size={2**63}", "loop.rate=1"], f"--set 'loop.batch_size={2**63}': loop: batch_size: a whole"),
        (["sets=[{}]", "sets.0.rate=x"], "--set 'sets.0.rate=x': sets.0.rate: "),
        (["sets=[{rate: x}]", "sets.0.batch_size=4"], "--set 'sets=[{rate: x}]': sets.0.rate: "),
        ([Override("loop.batch_size=1", "--batch 1")], "--batch 1: loop.batch_size: "),
        ([Override("loop.batch_size.x=1", "--batch 1")], "--batch 1: loop.batch_size is a value"),
        ([f"name=[{'x' * 500}]"], f"--set 'name=[{'x' * 74}': name: "),
    ],
)
def test_a_wrong_override_is_named_and_not_the_file(tmp_path, overrides, message):
    path = tmp_path / "a.yaml"
    path.write_text("name: x\nloop: {batch_size: 8}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(Example, path, overrides)
    assert str(caught.value).startswith(message)


def test_a_wrong_value_of_the_file_is_the_file_s_whatever_is_set(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("loop: {batch_size: 1}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: loop\.batch_size: "):
        load_settings(Example, path, ["name=b", "loop.rate=1"])
    with pytest.raises(ConfigError, match=r"^config: loop\.batch_size: "):
        load_settings(Wrong)
    assert load_settings(Example, path, ["loop.batch_size=4"]).loop.batch_size == 4


def test_an_override_changes_one_place_of_an_alias(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("sets: [&one {batch_size: 8}, *one]\n")
    found = load_settings(Example, path, ["sets.0.batch_size=4"])
    assert [loop.batch_size for loop in found.sets] == [4, 8]


def test_a_password_in_a_url_is_not_repeated():
    with pytest.raises(ConfigError, match=r"//\*\*\*@host") as caught:
        load_settings(Example, None, ["name=[http://user:secret@host/]"])
    assert "secret" not in str(caught.value)


class Numbers(Section):
    count: int = 3
    rate: Annotated[float, Field(gt=0)] | None = None
    many: list[int] = Field(default_factory=list)
    pair: tuple[int, bool] = (1, True)
    named: dict[str, float] = Field(default_factory=dict)
    seed: int | Literal["auto"] = "auto"
    either: int | bool = 0
    on: bool = False
    free: Any = None
    inner: Loop = Loop()
    version: Literal[1, 2] = 2


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"count": True}, "count"),
        ({"rate": False}, "rate"),
        ({"many": [1, True]}, "many"),
        ({"pair": [True, True]}, "pair"),
        ({"named": {"a": True}}, "named"),
        ({"seed": True}, "seed"),
        ({"inner": {"batch_size": True}}, "inner.batch_size"),
        ({"inner": {"rate": True}}, "inner.rate"),
        ({"version": True}, "version"),
    ],
)
def test_true_is_no_number(values, key):
    with pytest.raises(ConfigError, match=rf"^x: {key}: true and false are no numbers; give a number \(given: .*"):
        parse_settings(Numbers, values, "x")


def test_true_stays_where_bools_are_wanted():
    values = {"either": True, "on": True, "free": [True], "pair": [2, False], "many": [1], "seed": 1}
    found = parse_settings(Numbers, values)
    assert (found.either, found.on, found.free, found.pair) == (True, True, [True], (2, False))


@pytest.mark.parametrize("value", ["!!timestamp x", "!!float ''", "!!int ''", "!!binary 'é'", "!!bool x", "!!int x"])
def test_a_value_that_its_tag_does_not_fit_is_one_line(tmp_path, value):
    (tmp_path / "a.yaml").write_text(f"name: {value}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"a\.yaml: not valid YAML \(.*\); correct it there") as error:
        load_settings(Example, tmp_path / "a.yaml")
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="the value is not valid YAML; quote it"):
        load_settings(Example, None, [f"name={value}"])


def test_numbers_of_yaml_1_1_are_read_as_1_2_has_them(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "a: 1:30\nb: 1:30.5\nc: 010\nd: 0\ne: 0.5\nf: -7\ng: 0x10\nh: 1e3\ni: 2001-01-01 1:30:00\n"
    )
    found = read_yaml(tmp_path / "a.yaml")
    assert [found[key] for key in "abcdefg"] == ["1:30", "1:30.5", "010", 0, 0.5, -7, 16]
    (tmp_path / "a.yaml").write_text("loop: {batch_size: 1:30}\n")
    with pytest.raises(ConfigError, match=r"loop\.batch_size: .* \(given: '1:30'\)"):
        load_settings(Example, tmp_path / "a.yaml")


@pytest.mark.parametrize(
    "value", ["2024", "yes", "a'b\"c\\", " a: b #c ", "a\nb", "a\n\nb", "\x85\x7f\t\x01", "notes 🦎", "é", "~"]
)
def test_an_option_may_have_any_text(value):
    class Named(Section):
        name: str

    assert load_settings(Named, None, [Override.of("name", "--name", value)]).name == value


def test_options_that_are_numbers_and_names_that_are_not_utf_8():
    assert str(Override.of("a.b", "--b", 5)) == "a.b=5"
    assert str(Override.of("a.b", "--b", True)) == "a.b=true"
    with pytest.raises(ConfigError, match=r"--b 'caf\\udce9': the name is not UTF-8"):
        Override.of("a.b", "--b", "caf\udce9")


def test_a_file_of_settings_has_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr("gecko_core.io.settings._MOST_BYTES", 2**20)
    (tmp_path / "a.yaml").write_bytes(b"\0" * (2**20 + 1))
    with pytest.raises(ConfigError, match=r"a\.yaml: more than 1 MB; give the path of a recipe in YAML"):
        read_yaml(tmp_path / "a.yaml", "recipe")


def test_a_value_that_may_be_of_several_kinds_is_named_by_its_key_alone():
    class Several(Section):
        share: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] | None = None
        names: list[str] | Literal["all"] = "all"

    for values, key in (({"share": 2}, "share"), ({"names": 3}, "names")):
        with pytest.raises(ConfigError, match=rf"^config: {key}: "):
            parse_settings(Several, values)
