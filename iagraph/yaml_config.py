"""Typed YAML configuration: read a file, validate it with a pydantic model, and say clearly what is wrong with it."""

import copy
import difflib
import json
import re
import textwrap
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

Model = TypeVar("Model", bound=BaseModel)
COMMAND_LINE = "command line"


class ConfigError(ValueError):
    """Everything that is wrong with a configuration: one problem per argument, one per line of the message."""

    def __str__(self) -> str:
        return "\n".join(self.args)


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a number (YAML 1.1 demands 1.0e-3) and refuses a key given twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                raise yaml.MarkedYAMLError(problem=f"key '{key.value}' is given twice", problem_mark=key.start_mark)
            seen.add((key.tag, str(key.value)))
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that the loader would take for something else, a file called 1e3 for example."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def dump_yaml(values: dict[str, Any]) -> str:
    """YAML that `read_yaml` reads as the same values."""
    # ASCII with escapes: left as it is, a control character such as U+0085 would be read back as a space.
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{source}{line}: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # bad characters, 2024-13-45, endless nesting
        raise ConfigError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Mapping held by a YAML file; ConfigError if it cannot be read or holds something else."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the file: {error.strerror}") from error
    values = _parse(text, str(path))
    if values is None:
        raise ConfigError(f"{path}: the file is empty")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: should hold keys and values, found {_show(values)}")
    return values


def load_model(model_class: type[Model], path: str | Path, overrides: Sequence[str] = ()) -> Model:
    """Validated model of a YAML file, after changes of the form `section.key=value` whose values are YAML."""
    values, changed, problems = copy.deepcopy(read_yaml(path)), [], []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not (key and equals):
            problems.append(f"{COMMAND_LINE}: '{override}' should have the form key.sub=value")
            continue
        *sections, last = key.strip().split(".")
        here: Any = values
        for section in sections:
            here = here.setdefault(section, {}) if isinstance(here, dict) else None
        if not isinstance(here, dict):
            problems.append(f"{COMMAND_LINE}: '{key}' cannot be set, '{'.'.join(sections)}' is not a section")
            continue
        try:
            here[last] = _parse(text, f"{COMMAND_LINE}: '{override}'")
        except ConfigError as error:
            problems.extend(error.args)
        changed.append(key.strip())
    try:
        model = validate(model_class, values, str(path), changed)
    except ConfigError as error:
        problems.extend(error.args)
    if problems:
        raise ConfigError(*problems)
    return model


def validate(model_class: type[Model], values: Any, source: str, overridden: Collection[str] = ()) -> Model:
    """Model of `values`, or a ConfigError with all problems; those at or below an `overridden` key name no file."""
    try:
        return model_class.model_validate(values)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            key = _dotted_key(problem["type"], problem["loc"], values)
            changed = any(f"{key}.".startswith(f"{other}.") for other in overridden)
            # An override may have made a section that should not be, or whose values do not fit one another.
            if problem["type"] in ("extra_forbidden", "value_error"):
                changed |= any(other.startswith(f"{key}.") for other in overridden)
            problems.append(f"{COMMAND_LINE if changed else source}: {_explain(model_class, key, dict(problem))}")
        raise ConfigError(*problems) from error


def fields(model_class: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key of a model, sections before what they hold; a union of models offers the keys of each."""
    for name, field in model_class.model_fields.items():
        yield prefix + name, field
        for section in (field.annotation, *get_args(field.annotation)):
            # Python 3.10 takes list[str] for a type.
            if get_origin(section) is None and isinstance(section, type) and issubclass(section, BaseModel):
                yield from fields(section, f"{prefix}{name}.")


def describe(model_class: type[BaseModel]) -> str:
    """One paragraph per key: its dotted name, type and default, and below them what it means."""
    lines = []
    for key, field in fields(model_class):
        text = field.description or ""
        if any(other.startswith(f"{key}.") for other, _ in fields(model_class)):
            lines.append(f"\n[{key}] {text}".rstrip())
            continue
        value = field.get_default(call_default_factory=True)
        default = "required" if field.is_required() else f"default {_show(value)}"
        lines.append(f"{key}: {_type_text(field.annotation, field.metadata)}, {default}")
        lines.extend(textwrap.wrap(text, 100, initial_indent="    ", subsequent_indent="    "))
    return "\n".join(lines).strip("\n")


def _type_text(annotation: Any, bounds: Sequence[Any] = ()) -> str:
    # As in `int >= 1` or `list of str`.
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    limits = [f"{sign} {getattr(b, name)}" for name, sign in signs.items() for b in bounds if hasattr(b, name)]
    if hasattr(annotation, "__metadata__"):
        inner, *metadata = get_args(annotation)
        return _type_text(inner, [b for item in metadata for b in getattr(item, "metadata", [item])])
    if get_origin(annotation) is Literal:
        text = " | ".join(str(choice) for choice in get_args(annotation))
    elif get_origin(annotation) in (UnionType, Union):
        text = " | ".join("null" if part is type(None) else _type_text(part) for part in get_args(annotation))
    elif get_origin(annotation) is list:
        text = f"list of {_type_text(get_args(annotation)[0])}"
    elif get_origin(annotation) is dict:
        text = f"mapping of names to {_type_text(get_args(annotation)[1])}"
    else:
        text = "section" if issubclass(annotation, BaseModel) else annotation.__name__
    return " ".join([text, " and ".join(limits)]).strip()


def _dotted_key(kind: str, location: Sequence[Any], values: Any) -> str:
    # pydantic's location also holds the tags of unions, which the file does not: keep what leads to a value.
    parts: list[str] = []
    for part in location:
        if (isinstance(values, dict) and part in values) or (isinstance(values, list) and isinstance(part, int)):
            parts, values = [*parts, str(part)], values[part]
    return ".".join([*parts, str(location[-1])] if kind == "missing" else parts)


def _explain(model_class: type[BaseModel], key: str, problem: dict[str, Any]) -> str:
    known = dict(fields(model_class))
    place = re.sub(r"\.\d+(?=\.)", "", key)  # a.0.b is the b of any element of the list a
    if problem["type"] == "missing":
        field = known.get(place)
        return f"missing key '{key}'" + (f" ({_type_text(field.annotation, field.metadata)})" if field else "")
    if problem["type"] == "extra_forbidden":
        section, _, name = place.rpartition(".")
        # Compare last parts only: the common prefix would make every key of a section look alike.
        names = [other.rpartition(".")[2] for other in known]
        best = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
        near = [other for other in known if best and other.rpartition(".")[2] == best[0]]
        near.sort(key=lambda other: other.rpartition(".")[0] != section)
        siblings = [other for other in known if other.rpartition(".")[0] == section]
        hint = f"did you mean '{near[0]}'?" if near else f"valid keys: {', '.join(siblings)}"
        return f"unknown key '{key}'; {hint}"
    message = re.sub("^(Value error, |Input |String |Value )", "", problem["msg"])
    if problem["type"].startswith("model_"):  # pydantic would speak of dictionaries and the names of our classes
        message = "should be a section with keys of its own"
    if problem["type"] == "value_error" and isinstance(problem["input"], dict):
        return f"'{key}' {message}"  # how the values of a section fit: it says which
    return f"'{key}' {message}, found {_show(problem['input'])}"


def _show(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False, skipkeys=True)
    return text if len(text) <= 60 else text[:57] + "..."
