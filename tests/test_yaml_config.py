from typing import Annotated, Literal

import pytest
from messages import fits
from pydantic import BaseModel, ConfigDict, Field, model_validator

from iagraph.yaml_config import ConfigError, describe, dump_yaml, fields, load_model, read_yaml, validate


class Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Small(Section):
    """One layer."""

    name: Literal["small"]
    width: int = Field(ge=1, lt=9, description="Features.")


class Large(Section):
    """Many layers."""

    name: Literal["large"]
    width: int = Field(ge=1, lt=9, default=7, description="Features.")
    depths: list[Annotated[int, Field(ge=1)]] = Field(default=[2, 3])


class Start(Section):
    file: str


class Sample(Section):
    path: str


class Recipe(Section):
    model: Annotated[Small | Large, Field(discriminator="name", description="The network.")]
    rate: float | None = None
    start: Start | None = None
    samples: list[Sample] = Field(default=[])

    @model_validator(mode="after")
    def _rate_of_large(self):
        if self.model.name == "large" and self.rate == 0:
            raise ValueError("'rate' should not be 0 with 'model.name' large")
        return self


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "recipe.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


GOOD = "model: {name: small, width: 5}\n"


def problems(call, *arguments):
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1.5e3", 1500.0), ("-2E+4", -2e4), (".5e2", 50.0), ("1.e1", 10.0), ("1_000e1", 1e4),
        ("12", 12), ("0.5", 0.5), (".inf", float("inf")), ("on", True), ("null", None),
        ("'1e-3'", "1e-3"), ("e3", "e3"), ("1e", "1e"), ("1e3x", "1e3x"), ("3-1e3", "3-1e3"),
        ("010", 10), ("-07", -7), ("0o17", "0o17"), ("0x1F", 31), ("0b101", 5), ("1_000", 1000),
        ("007.5", 7.5), ("5.", 5.0),
        ("2025-11-27", "2025-11-27"), ("2025-11-27 10:30:00", "2025-11-27 10:30:00"), ("2024-13-45", "2024-13-45"),
        ("1:30", "1:30"), ("1:30.5", "1:30.5"), ("None", None), ("~", None), ("none", "none"), ("no", False),
    ],
)  # fmt: skip
def test_scalars(write, text, value):
    found = read_yaml(write(f"key: {text}"))["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": the file is empty"),
        ("# only a comment\n", ": the file is empty"),
        ("- 1\n- 2\n", ": should hold keys and values, found [1, 2]"),
        ("words", ': should hold keys and values, found "words"'),
        ("a: 1\nb: [1\n", ", line 3: "),
        ("a: 1\nb: {c: 1,\n  c: 2}\n", ", line 3: key 'c' is given twice"),
        ("a: &x [1, 2]\nb: &y [*x, *x]\n", ", line 2: alias '*x' inside an anchor: write it out"),
        ("a: &x\n  b: *x\n", ", line 2: alias '*x' inside an anchor: write it out"),
        ("a: 1\n---\nb: 2\n", ", line 2: "),
        ("a: !!python/name:os.system x\n", ", line 1: "),
        ("a: 0b_\n", ": not valid YAML: "),
        ("a: \x00\n", ": not valid YAML: "),
        ("[" * 5000, ": not valid YAML: "),
        (b"a: caf\xe9\n", ": not a text file in UTF-8 (byte 6)"),
    ],
)
def test_unreadable_files(write, content, message):
    path = write(content)
    (problem,) = problems(read_yaml, path)
    assert problem.startswith(f"{path}{message}")


def test_absent_files(tmp_path):
    for path, message in ((tmp_path / "no.yaml", "no such file"), (tmp_path, "cannot read the file: ")):
        (problem,) = problems(read_yaml, path)
        assert problem.startswith(f"{path}: {message}")


def test_merge_keys_can_be_overridden(write):
    assert read_yaml(write("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n"))["b"] == {"x": 3, "y": 2}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ["missing key 'model' (section)"]),
        ({"model": {"width": 5}}, ["missing key 'model.name' (small | large)"]),
        (
            {"model": {"name": "small", "depths": [2]}},
            [
                "missing key 'model.width' (int >= 1 and < 9)",
                "unknown key 'model.depths': small has no such key; valid keys: model.name, model.width",
            ],
        ),
        ({"model": {"name": ["small"], "width": 5}}, ["'model.name' should be 'small' or 'large', found [\"small\"]"]),
        ({"model": {"name": "small"}}, ["missing key 'model.width' (int >= 1 and < 9)"]),
        ({"model": None}, ["'model' should be a section with keys, found null"]),
        (
            {"model": {"name": "small", "width": "5"}, "rate": True},
            ["'model.width' should *, found \"5\"", "'rate' should *, found true"],
        ),
        ({"model": {"name": "small", "width": 9}}, ["'model.width' should * 9, found 9"]),
        (
            {"model": {"name": "large", "depths": [1, 0]}},
            ["'model.depths.1' should * 1, found 0"],
        ),
        (
            {"model": {"name": "huge"}},
            ["'model.name' should be 'small' or 'large', found \"huge\""],
        ),
        (
            {"model": {"name": "small", "width": 5, "widht": 5, "zzz": 1}, "with": 5, "rates": 1},
            [
                "unknown key 'model.widht'; did you mean 'model.width'?",
                "unknown key 'model.zzz'; valid keys: model.name, model.width",
                "unknown key 'with'; did you mean 'model.width'?",
                "unknown key 'rates'; did you mean 'rate'?",
            ],
        ),
        (
            {"model": {"name": "large"}, "samples": [{"path": "a"}, {"paht": "b"}]},
            ["missing key 'samples.1.path' (str)", "unknown key 'samples.1.paht'; did you mean 'samples.path'?"],
        ),
        ({"model": {"name": "large"}, 3: 4}, ["'3' Keys should be strings, found 3"]),
    ],
)
def test_problems_name_source_key_and_value(values, expected):
    found = problems(validate, Recipe, values, "a.yaml")
    assert len(found) == len(expected)
    assert all(map(fits, [f"a.yaml: {problem}" for problem in expected], found))


def test_long_values_are_cut():
    (problem,) = problems(validate, Recipe, {"model": {"name": "large"}, "rate": "x" * 500}, "a.yaml")
    assert problem.endswith('xxx...')  # fmt: skip
    assert len(problem) < 130


def test_valid_values_give_a_model(write):
    assert validate(Recipe, {"model": {"name": "small", "width": 5}}, "").model == Small(name="small", width=5)
    assert load_model(Recipe, write(GOOD + "rate: 1e-3")).rate == 1e-3


def test_overrides_change_values_in_order(write):
    overrides = ["model.width=6", "rate=1e-2", "model.width=7", "samples=[{path: a=b}]"]
    recipe = load_model(Recipe, write(GOOD), overrides)
    assert recipe == Recipe(model=Small(name="small", width=7), rate=0.01, samples=[Sample(path="a=b")])
    assert load_model(Recipe, write(GOOD), ["model={name: large}", "model.depths=[1]"]).model.depths == [1]


@pytest.mark.parametrize("start", ["", "start: null\n", "start: {file: b}\n"])
def test_overrides_create_optional_sections(write, start):
    assert load_model(Recipe, write(GOOD + start), ["start.file=a"]).start == Start(file="a")


def test_overrides_can_repair_a_file(write):
    assert load_model(Recipe, write("model: {name: small, width: 77}\n"), ["model.width=7"]).model.width == 7
    assert load_model(Recipe, write("rate: 1.0\n"), ["model.name=large"]).model == Large(name="large")


def test_all_problems_of_file_and_command_line_are_reported_at_once(write):
    path = write("model: {name: small, width: 0}\nrat: 1\n")
    overrides = ["width", "=3", "rate=fast", "model.width.x=1", "modell.width=3", "samples=[1", "rate.=2"]
    expected = [
        "command line: 'width' should have the form key.sub=value",
        "command line: '=3' should have the form key.sub=value",
        "command line: 'model.width.x' cannot be set, 'model.width' is not a section",
        "command line: 'samples=[1', line 1: *",
        "command line: 'rate.' cannot be set, 'rate' is not a section",
        f"{path}: 'model.width' should * 1, found 0",
        "command line: 'rate' should *, found \"fast\"",
        f"{path}: unknown key 'rat'; did you mean 'rate'?",
        "command line: unknown key 'modell'; did you mean 'model'?",
    ]
    found = problems(load_model, Recipe, path, overrides)
    assert len(found) == len(expected)
    assert all(map(fits, expected, found))


@pytest.mark.parametrize(
    ("overrides", "blamed"),
    [
        (["start.file=a"], False),
        (["model.depths=[1]"], False),
        (["rate=0.0"], True),
        (["model.name=large"], True),
        (["model={name: large}"], True),
    ],
)
def test_inconsistent_sections_are_refused(write, overrides, blamed):
    path = write("model: {name: large}\nrate: 0.0\n")
    (problem,) = problems(load_model, Recipe, path, overrides)
    assert problem == f"{'command line' if blamed else path}: 'rate' should not be 0 with 'model.name' large"


def test_fields_and_description():
    small, large = ["model.name", "model.width"], ["model.name", "model.width", "model.depths"]
    others = ["rate", "start", "start.file", "samples", "samples.path"]
    assert [key for key, _ in fields(Recipe)] == ["model", *small, *large, *others]
    assert [key for key, _ in fields(Recipe, {"model": {"name": "large"}})] == ["model", *large, *others]
    assert describe(Recipe) == (
        "rate: float | null, default null\n"
        "\n[model] The network.\n"
        "model.name: small | large, required\n"
        "\n[model] name: small\n"
        "    One layer.\n"
        "model.width: int >= 1 and < 9, required\n"
        "    Features.\n"
        "\n[model] name: large\n"
        "    Many layers.\n"
        "model.width: int >= 1 and < 9, default 7\n"
        "model.depths: list of int >= 1, default [2, 3]\n"
        "\n[start]\n"
        "start.file: str, required\n"
        "\n[samples]\n"
        "samples.path: str, required"
    )


def test_shared_values_are_written_twice(write):
    shared = [1, 2]
    values = {"a": shared, "b": {"c": shared}}
    assert read_yaml(write(dump_yaml(values))) == values
