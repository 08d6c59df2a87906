"""Typed YAML configuration: reading, validation with pydantic models, and clear error messages."""

import copy
import difflib
import inspect
import json
import re
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from iagraph.files import RECIPES, recipe_file

Model = TypeVar("Model", bound=BaseModel)
COMMAND_LINE = "command line"
NO_MEMBER = ("union_tag_invalid", "union_tag_not_found")


class Section(BaseModel):
    """A section of a configuration; values are not converted, and unknown keys are rejected."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


class ConfigError(ValueError):
    """All problems of a configuration, one per argument of the exception and one per line of its message."""

    def __str__(self) -> str:
        return "\n".join(self.args)


class _Loader(yaml.SafeLoader):
    """SafeLoader that accepts common forms of numbers (YAML 1.1 demands 1.0e-3) and rejects duplicate keys.

    It also rejects nested aliases, which could exhaust memory or contain themselves.
    """

    _anchored = 0  # depth of anchors in the current node

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        is_alias = isinstance(event, yaml.AliasEvent)
        if is_alias and self._anchored:
            problem = f"alias '*{event.anchor}' inside an anchor: write it out"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        has_anchor = not is_alias and event.anchor is not None
        self._anchored += has_anchor
        try:
            return super().compose_node(parent, index)
        finally:
            self._anchored -= has_anchor

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                raise yaml.MarkedYAMLError(problem=f"key '{key.value}' is given twice", problem_mark=key.start_mark)
            seen.add((key.tag, str(key.value)))
        return node

    def construct_yaml_int(self, node: Any) -> int:
        text = self.construct_scalar(node).replace("_", "")
        return int(text, 0) if re.match("^[-+]?0[bx]", text) else int(text)


# Text that YAML 1.1 would convert unexpectedly stays text: 2025-11-27 is no date, 1:30 is not 90. And 010 is ten, not
# eight; None is null.
_NUMBERS = {
    "int": r"^[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|\d[\d_]*)$",
    "float": r"^[-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*|(\d[\d_]*\.?[\d_]*|\.\d+)[eE][-+]?\d+|\.(inf|Inf|INF))$"
    r"|^\.(nan|NaN|NAN)$",
}
_REPLACED = [f"tag:yaml.org,2002:{kind}" for kind in ("timestamp", *_NUMBERS)]
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), list("-+.0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^None$"), ["N"])
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


class _Dumper(yaml.SafeDumper):
    """Dumper that quotes every string that this or another YAML loader would convert, such as 1e3 and 2025-11-27."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.yaml_implicit_resolvers = {
    first: [*_Loader.yaml_implicit_resolvers.get(first, []), *yaml.SafeDumper.yaml_implicit_resolvers.get(first, [])]
    for first in {**_Loader.yaml_implicit_resolvers, **yaml.SafeDumper.yaml_implicit_resolvers}
}


def dump_yaml(values: dict[str, Any]) -> str:
    """YAML that ``read_yaml`` reads back unchanged."""
    # Escaped to ASCII: control characters such as U+0085 would be read back as spaces.
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{source}{line}: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # for example bad characters, 0b_, deep nesting
        raise ConfigError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file or packaged recipe; ConfigError if it cannot be read or is not a mapping."""
    file = recipe_file(path)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8 (byte {error.start})") from error
    except OSError as error:
        reason = f"cannot read the file: {error.strerror}"
        if isinstance(error, FileNotFoundError):
            near = difflib.get_close_matches(file.stem, [recipe.stem for recipe in RECIPES.glob("*.yaml")], 1, 0.5)
            reason = "no such file"
            if near or str(path).isidentifier():
                named = f"; did you mean the recipe {near[0]}?" if near else " and no recipe of this name;"
                reason += f"{named} iagraph recipes lists them"
        raise ConfigError(f"{path}: {reason}") from error
    values = _parse(text, str(path))
    if values is None:
        raise ConfigError(f"{path}: the file is empty")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: should hold keys and values, found {_show(values)}")
    return values


def read_extended(path: str | Path) -> tuple[dict[str, Any], str]:
    """The mapping in a YAML file, completed by the recipe that its key ``extends`` names; and text that names both.

    Sections are merged key by key, but a section with another ``name`` (of a model) is replaced as a whole. The name of
    the run is not inherited: it is that of the file, unless the file gives one.

    Raises:
        ConfigError: a file cannot be read, ``extends`` names no recipe, or that recipe extends another one.
    """
    values = dict(read_yaml(path))
    if "extends" not in values:
        return values, str(path)
    name = values.pop("extends")
    if not isinstance(name, str):
        raise ConfigError(f"{path}: 'extends' should name a recipe, for example qg_lite, found {_show(name)}")
    try:
        base = read_yaml(recipe_file(name, recipe_file(path).parent))
    except ConfigError as error:
        raise ConfigError(f"{path}: extends: {error}") from error
    if "extends" in base:
        raise ConfigError(f"{path}: extends {name}, which extends {base['extends']}: extend that one, or join the two")
    own = {"name": re.sub(r"[^A-Za-z0-9_.-]", "_", recipe_file(path).stem).lstrip("_.-")} if "name" in base else {}
    merged = base | own | values
    for key, section in values.items():
        theirs = base.get(key)
        if isinstance(section, dict) and isinstance(theirs, dict) and section.get("name") in (None, theirs.get("name")):
            merged[key] = theirs | section
    return merged, f"{path}, which extends {name}"


def load_model(
    model_class: type[Model], path: str | Path, overrides: Sequence[str] = (), *, extends: bool = False
) -> Model:
    """Validated model from a YAML file and overrides ``section.key=value``, whose values are YAML.

    If ``extends`` is true, the file may extend a recipe; see :func:`read_extended`.
    """
    read, source = read_extended(path) if extends else (read_yaml(path), str(path))
    values, changed, problems = copy.deepcopy(read), [], []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not (key and equals):
            problems.append(f"{COMMAND_LINE}: '{override}' should have the form key.sub=value, such as train.epochs=3")
            continue
        *sections, last = key.strip().split(".")
        here: Any = values
        for section in sections:
            if isinstance(here, dict) and here.get(section) is None:
                here[section] = {}  # the first key of an optional section creates it
            here = here[section] if isinstance(here, dict) else None
        if not isinstance(here, dict):
            problems.append(f"{COMMAND_LINE}: '{key}' cannot be set, '{'.'.join(sections)}' is not a section")
            continue
        try:
            here[last] = _parse(text, f"{COMMAND_LINE}: '{override}'")
        except ConfigError as error:
            problems.extend(error.args)
        changed.append(key.strip())
    try:
        model = validate(model_class, values, source, changed)
    except ConfigError as error:
        problems.extend(error.args)
    if problems:
        raise ConfigError(*problems)
    return model


def validate(model_class: type[Model], values: Any, source: str, overridden: Collection[str] = ()) -> Model:
    """Validated model from ``values``.

    Raises:
        ConfigError: lists all problems, and names ``source``, or the command line for ``overridden`` keys.
    """
    try:
        return model_class.model_validate(values)
    except ValidationError as error:
        problems = []
        for problem in map(dict, error.errors()):
            key = _dotted_key(problem, values)
            changed = any(f"{key}.".startswith(f"{other}.") for other in overridden)
            # An override may have created an invalid section, or one with inconsistent values.
            if key and problem["type"] in ("extra_forbidden", "value_error"):
                changed |= any(other.startswith(f"{key}.") for other in overridden)
            elif not key:  # inconsistent sections: the message quotes their keys
                quoted = [f"{other}." for other in re.findall("'(.*?)'", str(problem["msg"]))]
                changed |= any(other.startswith(f"{name}.") for other in quoted for name in overridden)
            problems.append(f"{COMMAND_LINE if changed else source}: {_explain(model_class, key, problem, values)}")
        raise ConfigError(*problems) from error


def fields(model_class: type[BaseModel], values: Any = None, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key of a model with its field, sections before their keys.

    For a union of models, the keys of the one that ``values`` selects, or of all if it selects none.
    """
    for name, field in model_class.model_fields.items():
        yield prefix + name, field
        inside = values.get(name) if isinstance(values, dict) else None
        members = _members(field)
        tag = inside.get(field.discriminator) if isinstance(inside, dict) else None
        chosen = [members[tag]] if isinstance(tag, str) and tag in members else _sections(field)
        for section in chosen:
            yield from fields(section, inside, f"{prefix}{name}.")


def _sections(field: FieldInfo) -> list[type[BaseModel]]:
    # In Python 3.10, list[str] is an instance of type.
    types = [kind for kind in (field.annotation, *get_args(field.annotation)) if get_origin(kind) is None]
    return [kind for kind in types if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _members(field: FieldInfo) -> dict[str, type[BaseModel]]:
    """The models of a discriminated union by tag; empty for other fields."""
    key = field.discriminator
    if not isinstance(key, str):
        return {}
    return {tag: section for section in _sections(field) for tag in get_args(section.model_fields[key].annotation)}


def describe(model_class: type[BaseModel]) -> str:
    """One paragraph per key: dotted name, type and default, then the meaning.

    The models of a union follow one another with all their keys; repeated meanings are omitted.
    """
    return "\n".join(_paragraphs(model_class, "", set())).strip("\n")


def _paragraphs(
    model_class: type[BaseModel], prefix: str, described: set[tuple[str, str]], skip: Any = None
) -> Iterator[str]:
    by_kind = sorted(model_class.model_fields.items(), key=lambda item: bool(_members(item[1]) or _sections(item[1])))
    for name, field in by_kind:  # sections last: what follows a heading belongs to it
        key, text, members = prefix + name, field.description or "", _members(field)
        if members:
            yield f"\n[{key}] {text}".rstrip()
            yield from _wrapped(f"{key}.{field.discriminator}: {' | '.join(members)}, required", first="")
            for tag, section in members.items():
                yield f"\n[{key}] {field.discriminator}: {tag}"
                yield from _wrapped(_without_markup(inspect.getdoc(section) or ""))
                yield from _paragraphs(section, f"{key}.", described, skip=field.discriminator)
        elif sections := _sections(field):
            yield f"\n[{key}] {text}".rstrip()
            for section in sections:
                yield from _paragraphs(section, f"{key}.", described)
        elif name != skip:
            value = field.get_default(call_default_factory=True)
            default = "required" if field.is_required() else f"default {_show(value)}"
            yield f"{key}: {_type_text(field.annotation, field.metadata)}, {default}"
            if (key, text) not in described:
                yield from _wrapped(text)
            described.add((key, text))


def _without_markup(docstring: str) -> str:
    """The text of a docstring for a terminal: of roles their content, of links their text and address."""
    return re.sub(r"`([^`<]*?)\s*<([^>]*)>`_", r"\1 (\2)", re.sub(r":[a-z]+:`([^`]*)`", r"\1", docstring))


def _wrapped(text: str, first: str = "    ") -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=first, subsequent_indent="    ")


def _type_text(annotation: Any, bounds: Sequence[Any] = ()) -> str:
    # For example `int >= 1` or `list of str`.
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    limits = [f"{sign} {getattr(b, name)}" for name, sign in signs.items() for b in bounds if hasattr(b, name)]
    if hasattr(annotation, "__metadata__"):
        inner, *metadata = get_args(annotation)
        return _type_text(inner, [b for item in metadata for b in getattr(item, "metadata", [item])])
    if get_origin(annotation) is Literal:
        text = " | ".join(str(choice) for choice in get_args(annotation))
    elif get_origin(annotation) in (UnionType, Union):
        parts = ("null" if part is type(None) else _type_text(part) for part in get_args(annotation))
        text = " | ".join(dict.fromkeys(parts))  # a union of sections is one section
    elif get_origin(annotation) is list:
        text = f"list of {_type_text(get_args(annotation)[0])}"
    elif get_origin(annotation) is dict:
        text = f"mapping of names to {_type_text(get_args(annotation)[1])}"
    else:
        text = "section" if issubclass(annotation, BaseModel) else annotation.__name__
    return " ".join([text, " and ".join(limits)]).strip()


def _dotted_key(problem: dict[str, Any], values: Any) -> str:
    # pydantic's location includes union tags, which are not in the file: keep keys that lead to a value.
    parts: list[str] = []
    for part in problem["loc"]:
        if (isinstance(values, dict) and part in values) or (isinstance(values, list) and isinstance(part, int)):
            parts, values = [*parts, str(part)], values[part]
    if problem["type"] == "missing":
        parts.append(str(problem["loc"][-1]))
    elif problem["type"] in NO_MEMBER:
        parts.append(problem["ctx"]["discriminator"].strip("'"))
    return _printable(".".join(parts))


def _explain(model_class: type[BaseModel], key: str, problem: dict[str, Any], values: Any) -> str:
    known = dict(fields(model_class, values))
    place = re.sub(r"\.\d+(?=\.)", "", key)  # a.0.b is key b in an element of list a
    section, _, name = place.rpartition(".")
    if problem["type"] in NO_MEMBER:
        *most, last = _members(known[section])
        if problem["type"] == "union_tag_not_found":
            return f"missing key '{key}' ({' | '.join([*most, last])})"
        choices = ", ".join(f"'{tag}'" for tag in most)
        return f"'{key}' should be {choices} or '{last}', found {_show(problem['input'][name])}"
    if problem["type"] == "missing":
        field = known.get(place)
        return f"missing key '{key}'" + (f" ({_type_text(field.annotation, field.metadata)})" if field else "")
    if problem["type"] == "extra_forbidden":
        siblings = ", ".join(other for other in known if other.rpartition(".")[0] == section)
        if place in dict(fields(model_class)):  # a key of another model in the union
            return f"unknown key '{key}': {problem['loc'][-2]} has no such key; valid keys: {siblings}"
        # Compare last parts only: a common prefix would make all keys of a section similar.
        names = [other.rpartition(".")[2] for other in known]
        best = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
        near = [other for other in known if best and other.rpartition(".")[2] == best[0]]
        near.sort(key=lambda other: other.rpartition(".")[0] != section)
        hint = f"did you mean '{near[0]}'?" if near else f"valid keys: {siblings}"
        return f"unknown key '{key}'; {hint}"
    message = re.sub("^(Value error, |Input |String |List |Value )", "", problem["msg"])
    if problem["type"].startswith("model_"):  # pydantic would mention dictionaries and class names
        message = "should be a section with keys"
    if problem["type"] == "value_error" and isinstance(problem["input"], dict):
        return f"'{key}' {message}" if key else message  # inconsistent values: the message itself names the keys
    return f"'{key}' {message}, found {_show(problem['input'])}{_advice(problem)}"


def _advice(problem: dict[str, Any]) -> str:
    """Advice about a value that YAML reads in an unexpected way."""
    if problem["type"] != "string_type":
        return ""
    if isinstance(problem["input"], bool):
        return "; yes, no, on and off mean true and false in YAML: quote such names"
    return "; quote it" if isinstance(problem["input"], int | float) else ""


def _show(value: Any) -> str:
    text = _printable(json.dumps(value, default=str, ensure_ascii=False, skipkeys=True))
    return text if len(text) <= 60 else text[:57] + "..."


def _printable(text: str) -> str:
    """The text with non-printable characters escaped."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key that is not a section, with its value."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
