"""Settings: a YAML file and ``--set a.b=c`` overrides, checked by a pydantic model, with errors of one line."""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator, model_validator

from gecko_core.errors import ConfigError, first_line

_MOST_VALUES = 100_000
_MOST_BYTES = 2**24  # of a YAML file; a device that is named by mistake may have no end
_MOST = 2**63 - 1  # what fits into the 64 bits that arrays and files have for a whole number
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_OLD_NUMBER = re.compile(r":|^[-+]?0[0-9_]+$")
_USER = re.compile(r"//[^/\s@]*@")
_KIND = re.compile(r"(constrained-)?(float|int|str|bool)|(literal|list|dict|tuple|function-[a-z]+)\[.*\]")


class Section(BaseModel):
    """A section of settings: an unknown key is an error, never ignored, and so is a number that is none.

    Attributes:
        renamed: keys of earlier versions and what they are called now; whoever uses one is told the new name.
    """

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)
    renamed: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _names_of_earlier_versions(cls, values: Any) -> Any:
        for old, new in cls.renamed.items() if isinstance(values, Mapping) else ():
            if old in values:
                raise ValueError(f"the key {old!r} is now called {new!r}; rename it")
        return values

    @model_validator(mode="before")
    @classmethod
    def _numbers_fit(cls, values: Any) -> Any:
        for key, value in values.items() if isinstance(values, Mapping) else ():
            if isinstance(value, int) and abs(value) > _MOST:
                raise ValueError(f"{key}: a whole number of more than 64 bits cannot be meant")
        return values

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        if _bool_for_a_number(field.annotation, value):
            raise ValueError(f"true and false are no numbers; give a number (given: {value!r:.80})")
        return value

    @classmethod
    def upgrade(cls, values: Any) -> Any:
        """Values that an earlier version dumped, under the names of this one; nothing is checked.

        A renamed key that holds null is left out: the default of its new place applies.

        Args:
            values: what a YAML or JSON file holds for this section.

        Returns:
            A copy, nested sections included.
        """
        if not isinstance(values, Mapping):
            return values
        upgraded = {key: value for key, value in values.items() if key not in cls.renamed}
        for old, new in cls.renamed.items():
            if values.get(old) is not None:
                _set_below(upgraded, new.split("."), values[old])
        for name, field in cls.model_fields.items():
            section, value = _model_of(field.annotation), upgraded.get(name)
            if value is None or section is None or not issubclass(section, Section):
                continue
            is_list = isinstance(value, list)
            upgraded[name] = [section.upgrade(item) for item in value] if is_list else section.upgrade(value)
        return upgraded


Settings = TypeVar("Settings", bound=BaseModel)


class Override(str):
    """``a.b=c`` from an option of its own, such as ``--seeds 5``, which messages name in the place of ``--set``.

    Args:
        assignment: what would follow ``--set``.
        option: what the user wrote.
    """

    option: str

    def __new__(cls, assignment: str, option: str) -> Override:
        """See the class."""
        override = super().__new__(cls, assignment)
        override.option = option
        return override

    @classmethod
    def of(cls, key: str, option: str, value: object) -> Override:
        """An option's value for a key, whatever characters it has (a folder called ``2024`` is no number).

        Args:
            key: of the setting, ``a.b``.
            option: its name on the command line.
            value: a text, a path, a number, true or false.

        Raises:
            ConfigError: a text that is not UTF-8.
        """
        given = f"{option} {shlex.quote(str(value))}"
        if isinstance(value, int | float):
            return cls(f"{key}={json.dumps(value)}", given)
        text = str(value)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ConfigError(f"{option} {text!a}: the name is not UTF-8; give the file or folder one that is")
        return cls(f"{key}={_yaml_text(text)}", given)


def _yaml_text(text: str) -> str:
    """As a string of YAML, in which everything but plain ASCII is escaped: YAML folds the ends of lines."""
    plain = (one if " " <= one <= "~" and one not in '"\\' else f"\\U{ord(one):08x}" for one in text)
    return f'"{"".join(plain)}"'


def _bool_for_a_number(annotation: Any, value: Any) -> bool:
    """Whether a value is a bool, or holds one, where the annotation wants a number; Python takes True for 1."""
    if not isinstance(value, bool | list | tuple | dict):
        return False
    kinds = list(_alternatives(annotation))
    if isinstance(value, bool):
        takes_bools = any(
            kind in (bool, Any) or (get_origin(kind) is Literal and any(value is one for one in get_args(kind)))
            for kind in kinds
        )
        takes_numbers = any(
            kind in (int, float) or (get_origin(kind) is Literal and value in get_args(kind)) for kind in kinds
        )
        return not takes_bools and takes_numbers
    for kind in kinds:
        inner = [argument for argument in get_args(kind) if argument is not Ellipsis]
        elements = list(value.values()) if isinstance(value, dict) else list(value)
        if get_origin(kind) in (list, tuple, set, frozenset, dict, Sequence, Mapping) and inner:
            # Of a mapping its values; of a tuple of fixed length every element has a kind of its own.
            wanted = inner if get_origin(kind) is tuple and len(inner) == len(elements) else inner[-1:] * len(elements)
            if any(map(_bool_for_a_number, wanted, elements)):
                return True
    return False


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The kinds that an annotation allows, without what is written around them."""
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for argument in get_args(annotation):
            yield from _alternatives(argument)
    else:
        yield annotation


def load_settings(
    model: type[Settings],
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    what: str = "config",
    may_be_empty: bool = True,
) -> Settings:
    """Read a YAML file (without one: the defaults), apply overrides and check the result.

    Args:
        model: the settings' pydantic model.
        path: the file.
        overrides: ``a.b=c`` each, values in YAML; ``sets.0.limit=5`` reaches into lists.
        what: the word for such a file in messages ("recipe").
        may_be_empty: whether a file without a key stands for the defaults.

    Raises:
        ConfigError: the file is missing or not YAML, it is empty and may not be, a key is unknown (the nearest known
            one is named), a value is wrong. The line begins with the override that is to blame, else with the file.
    """
    values = {} if path is None else read_yaml(path, what)  # once: it may be a pipe
    if path is not None and not values and not may_be_empty:  # as a full disk leaves it
        raise ConfigError(f"{path}: holds no key; a {what} needs one at least, such as `name`")
    try:
        return model.model_validate(_overridden(values, overrides))
    except ValidationError as error:
        to_blame = _to_blame(model, values, overrides, error)
        where = (what if path is None else str(path)) if to_blame is None else _shown(to_blame)
        raise ConfigError(f"{where}: {describe_error(error, model)}") from None


def read_yaml(path: str | Path, what: str = "config") -> dict[str, Any]:
    """The mapping that a YAML file holds; an empty file is an empty mapping.

    Raises:
        ConfigError: no such file, a folder, not UTF-8, not YAML, or no mapping.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ConfigError(f"{path}: more than {_MOST_BYTES // 2**20} MB; give the path of a {what} in YAML")
        values = parse_yaml(content.decode("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such {what} file; give the path of a YAML file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; give the path of a YAML file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (byte {error.start}); save the file as UTF-8") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())}); correct it there") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}; a {what} is keys with values")
    return values


def parse_yaml(text: str) -> Any:
    """What YAML text holds: plain values only, every key once, aliases within reason.

    Raises:
        ValueError: a key that occurs twice, aliases that stand for more than 100,000 values together (a few lines can
            stand for billions), half a surrogate pair, or a value that is none, such as the 45th of a month or what
            its tag does not fit.
        yaml.YAMLError: no YAML.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _check_node(root, {})
        return loader.construct_document(root)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise
    except Exception as error:  # what a tag makes of a value that does not fit it: `!!timestamp x`, `!!float ''`
        raise ValueError(f"a value that its tag does not fit ({type(error).__name__}: {first_line(error)})") from None
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Reads two forms of YAML 1.1 as the text that they are in YAML 1.2: 1:30, which was 90, and 010, which was 8."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        """See PyYAML."""
        tag = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        return "tag:yaml.org,2002:str" if tag in _NUMBERS and _OLD_NUMBER.search(value) else tag


def _check_node(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many values a node stands for, with its aliases written out."""
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise ValueError(f"{_place(node)}: the alias stands for a value that holds itself")
        return sizes[id(node)]
    sizes[id(node)] = 0  # being counted
    size = 1
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
            if name in seen:
                raise ValueError(f"{_place(key)}: the key {key.value!r} occurs twice; remove one")
            seen.add(name)
            size += _check_node(key, sizes) + _check_node(value, sizes)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_check_node(element, sizes) for element in node.value)
    else:
        try:
            node.value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{_place(node)}: half of a surrogate pair, which is no character; remove it") from None
    if size > _MOST_VALUES:
        raise ValueError(f"{_place(node)}: more than {_MOST_VALUES:,} values with all aliases written out")
    sizes[id(node)] = size
    return size


def _place(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


def parse_settings(model: type[Settings], values: Any, where: str = "config") -> Settings:
    """Check values against the model.

    Raises:
        ConfigError: one line for the first thing that is wrong: ``where``, the key, the cure.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe_error(error, model)}") from None


def dump_settings(settings: BaseModel) -> str:
    """Settings as YAML, every default written out, ready to be read again."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set ``a.b.c=value`` in nested mappings and lists, the value read as YAML.

    Raises:
        ConfigError: no such form, a value that is not YAML, a path through a value or past the end of a list.
    """
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"{_shown(override)}: write it as section.key=value")
    try:
        value = parse_yaml(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise ConfigError(f"{_shown(override)}: the value is not valid YAML; quote it") from None
    place: Any = values
    for depth, key in enumerate(keys[:-1]):
        if isinstance(place, list):
            place = place[_position(place, key, override)]
        else:
            if place.get(key) is None:
                place[key] = {}
            place = place[key]
        if not isinstance(place, dict | list):
            raise ConfigError(f"{_shown(override)}: {'.'.join(keys[: depth + 1])} is a value and has no keys below it")
    if isinstance(place, list):
        place[_position(place, keys[-1], override)] = value
    else:
        place[keys[-1]] = value


def _overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of the values with the overrides applied."""
    copy: dict[str, Any] = _written_out(values)
    for override in overrides:
        apply_override(copy, override)
    return copy


def _written_out(value: Any) -> Any:
    """A copy in which no part is there twice: an override must not change what an alias stands for elsewhere."""
    if isinstance(value, dict):
        return {key: _written_out(inner) for key, inner in value.items()}
    return [_written_out(inner) for inner in value] if isinstance(value, list) else value


def _to_blame(
    model: type[BaseModel], values: dict[str, Any], overrides: Sequence[str], error: ValidationError
) -> str | None:
    """The last override without which there is no such error; None where it is the file's."""
    for place in reversed(range(len(overrides))):
        try:
            model.model_validate(_overridden(values, [*overrides[:place], *overrides[place + 1 :]]))
        except ValidationError as other:
            if _first(other) == _first(error):
                continue
        except ConfigError:  # a later override reaches into what this one has set
            continue
        return overrides[place]
    return None


def _first(error: ValidationError) -> tuple[Any, ...]:
    first = error.errors()[0]
    given = first.get("input")
    # Of a whole section the other keys do not matter.
    return first["loc"], first["type"], first["msg"], None if isinstance(given, Mapping) else repr(given)


def _shown(override: str) -> str:
    """The option that an override is from, as the user wrote it."""
    text = override.option if isinstance(override, Override) else f"--set {override[:80]!r}"
    return _USER.sub("//***@", text)


def describe_error(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem that pydantic found, in one line; for an unknown key the nearest known ones."""
    first = error.errors()[0]
    # Of a value that may be of several kinds, pydantic names the kind as well ("constrained-float", "list[str]").
    path = ".".join(str(part) for part in first["loc"] if not _KIND.fullmatch(str(part)))
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.0)
        hint = f"; did you mean {near[0]!r}? (known here: {', '.join(known)})" if near else "; remove it"
        return f"unknown key {path!r}{hint}{more}"
    if first["type"] == "missing":
        return f"key {path!r} is missing; add it{more}"
    reason = first["msg"].removeprefix("Value error, ")
    shown = _USER.sub("//***@", repr(first.get("input")))[:80]  # a password in a URL is nobody's business
    given = "" if first["type"] == "value_error" else f" (given: {shown})"
    return f"{path + ': ' if path else ''}{reason[:1].lower()}{reason[1:]}{given}{more}"


def _set_below(values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Set a value in nested mappings without changing those that were there."""
    for key in keys[:-1]:
        values[key] = dict(values.get(key) or {})
        values = values[key]
    values[keys[-1]] = value


def _position(place: list[Any], key: str, override: str) -> int:
    if not (key.isascii() and key.isdigit() and len(key) < 10) or int(key) >= len(place):
        raise ConfigError(f"{_shown(override)}: {key!r} is not an index below {len(place)} of that list")
    return int(key)


def _keys_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Names of the keys that are valid at ``location``."""
    here: Any = model
    for part in location:
        if isinstance(part, int):  # an element of a list: the annotation was unwrapped already
            continue
        if not _is_model(here) or part not in here.model_fields:
            return []
        here = _model_of(here.model_fields[part].annotation)
    return list(here.model_fields) if _is_model(here) else []


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _model_of(annotation: Any) -> Any:
    if _is_model(annotation):
        return annotation
    inner = (_model_of(argument) for argument in getattr(annotation, "__args__", ()))
    return next((found for found in inner if found is not None), None)
