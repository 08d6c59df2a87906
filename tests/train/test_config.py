import copy
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import fits
from pydantic import ValidationError

from iagraph.train.config import Config, describe_config, dump_config, load_config
from iagraph.yaml_config import ConfigError, dump_yaml, fields, flat, validate

VALUES = {
    "name": "qg-small_1.0",
    "data": {
        "train": ["a.h5", "b.h5"],
        "val": "sample:qg",
        "test": ["c.h5"],
        "node_features": "kinpid",
        "pair_features": "invariant",
        "signal": "quark",
        "batch_size": 64,
    },
    "model": {
        "name": "iaformer",
        "width": 30,
        "blocks": 2,
        "heads": 5,
        "particle_hidden": [64],
        "pair_hidden": [],
        "pair_width": 16,
    },
    "train": {
        "epochs": 3,
        "learning_rate": 1e-3,
        "min_learning_rate": 1e-6,
        "warmup": 0.1,
        "weight_decay": 0.01,
        "patience": 2,
        "clip": None,
    },
}
RECIPE = yaml.safe_dump(VALUES)
PAIRS = {key: value for key, value in VALUES["model"].items() if key != "name"}
FINE_TUNE = ["fine_tune.weights=a.pt", "fine_tune.new_head=true"]
MODELS = {
    "iaformer": PAIRS,
    "gated_iaformer": PAIRS | {"gate_hidden": 5, "gate_fraction": 0.3},
    "cascaded_iaformer": PAIRS | {"gate_hidden": 5, "gate_fraction": 0.3},
    "plain_transformer": {"width": 30, "blocks": 2, "heads": 5, "particle_hidden": [64]},
    "interaction_transformer": PAIRS,
    "pair_transformer": PAIRS,
    "learned_pair_iaformer": PAIRS,
    "particle_transformer": {
        "width": 30,
        "blocks": 2,
        "class_blocks": 1,
        "heads": 5,
        "particle_hidden": [64],
        "pair_hidden": [7],
        "dropout": 0.0,
    },
    "particlenet": {"channels": [[7, 5], [3]], "neighbors": 4, "head_hidden": 11, "dropout": 0.1},
}
WITHOUT_PAIRS = {"plain_transformer", "learned_pair_iaformer", "particlenet"}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_recipe_with_defaults(recipe):
    config = load_config(recipe)
    assert config.data.val == ["sample:qg"]
    assert (config.seed, config.output, config.data.workers, config.data.max_particles) == (1, "runs", 0, None)
    assert config.data.masses == "stored"  # as before this key existed
    assert (config.data.max_jets, config.model.beta_per_head, config.train.accumulate) == (None, False, 1)
    assert (config.train.precision, config.train.device) == ("32-true", "auto")
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 2


def test_overrides(recipe):
    config = load_config(recipe, ["train.learning_rate=2e-3", "data.train=sample:qg", "train.clip=1", "seed=7"])
    assert (config.train.learning_rate, config.data.train, config.train.clip) == (2e-3, ["sample:qg"], 1)
    assert config.seed == 7


positive = st.integers(1, 10**6)
texts = st.text(min_size=1)
# A pattern is replaced by the files that it matches, so names have no wildcards.
files = texts.filter(lambda name: not set("*?") & set(name))


@st.composite
def configs(draw):
    values = copy.deepcopy(VALUES)
    heads = draw(st.integers(1, 8))
    rate = draw(st.floats(1e-12, 1e3))
    values |= {"seed": draw(st.integers(0, 2**32 - 1)), "output": draw(texts)}
    values["data"] |= {"train": draw(st.lists(files, min_size=1)), "signal": draw(texts), "batch_size": draw(positive)}
    names = st.text("abcXYZ", min_size=1)
    efficiencies = st.dictionaries(names, st.floats(0, 1, exclude_min=True))
    values["data"] |= {"max_jets": draw(st.none() | positive), "signal_efficiency": draw(efficiencies)}
    values["model"] |= {"heads": heads, "width": heads * draw(positive), "pair_hidden": draw(st.lists(positive))}
    values["train"] |= {"learning_rate": rate, "min_learning_rate": draw(st.floats(0, rate))}
    values["train"] |= {"clip": draw(st.none() | st.floats(1e-300, 1e300)), "warmup": draw(st.floats(0, 0.999))}
    return validate(Config, values, "drawn")


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=50)
@given(path=st.sampled_from([key for key, *_ in flat(VALUES)]), value=json, cut=st.integers(0, 2))
def test_any_value_of_any_key_is_accepted_or_named(tmp_path_factory, path, value, cut):
    values = copy.deepcopy(VALUES)
    *parents, last = path.split(".")[: max(1, path.count(".") + 1 - cut)]
    section = values
    for parent in parents:
        section = section[parent]
    section[last] = value
    file = tmp_path_factory.mktemp("any") / "config.yaml"
    file.write_text(dump_yaml(values), encoding="utf-8", newline="")
    try:
        config = load_config(file)
    except ConfigError as error:
        assert all(line.startswith(f"{file}: ") for line in str(error).splitlines())  # noqa: PT017
    else:
        assert load_config(file) == config


@given(st.text() | st.binary())
def test_any_text_is_accepted_or_named(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("text") / "config.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert str(file) in str(caught.value)


@given(configs())
def test_dumped_configuration_round_trips(tmp_path_factory, config):
    path = tmp_path_factory.mktemp("dump") / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8", newline="")
    assert load_config(path) == config


def test_strings_that_look_like_numbers_stay_strings(recipe, tmp_path):
    given = ["name='1e3'", "output='2E-5'", "data.signal='7'", "data.signal_efficiency={'1e0': 0.3}"]
    (tmp_path / "again.yaml").write_text(dump_config(load_config(recipe, given)), encoding="utf-8")
    config = load_config(tmp_path / "again.yaml")
    assert (config.name, config.output, config.data.signal) == ("1e3", "2E-5", "7")
    assert config.data.signal_efficiency == {"1e0": 0.3}


def test_dates_and_none_are_strings_and_null(recipe, tmp_path):
    config = load_config(recipe, ["name=2025-11-27", "output=2025-11-27", "data.signal=1:30", "train.clip=None"])
    assert (config.name, config.output, config.data.signal) == ("2025-11-27", "2025-11-27", "1:30")
    assert config.train.clip is None
    assert load_config(recipe, ["seed=010"]).seed == 10
    (tmp_path / "again.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "again.yaml") == config


SCALARS = [
    "2025-11-27",
    "2025-11-27T10:30:00Z",
    "010",
    "0x1F",
    "1:30",
    "yes",
    "no",
    "None",
    "null",
    "1e-3",
    "1e400",
    ".inf",
]
SCALARS += [
    "-3",
    "0.5",
    "'7'",
    "~/runs",
    "=",
    "<<",
    "!!int x",
    "&a",
    "*a",
    "[",
    "{",
    "?",
    "@x",
    "",
    "a: b",
    "#",
    "!!python/none",
]


@pytest.mark.parametrize("scalar", SCALARS)
def test_scalars_are_accepted_or_refused_line_by_line(recipe, scalar):
    keys = [key for key, *_ in fields(Config, VALUES)] + ["fine_tune.weights"]
    for key in dict.fromkeys(keys):
        try:
            load_config(recipe, [f"{key}={scalar}"])
        except ConfigError as error:
            for line in error.args:
                assert line.startswith(("command line: ", f"{recipe}: ")), line
                assert "\n" not in line


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("name=2025", "'name' should *, found 2025; quote it"),
        ("data.signal=no", "'data.signal' should *, found false; yes, no, on and off mean true and"),
        ("train.epochs=1:30", "'train.epochs' should *, found \"1:30\""),
        ("name=a/b", "'name' should *, found \"a/b\""),
        ("name=..", "'name' should *, found \"..\""),
        ("seed=-1", "'seed' should * 0, found -1"),
        ("seed=true", "'seed' should *, found true"),
        ("data.train=[]", "'data.train' should * 1 *, found []"),
        ("data.train=[a, 3]", "'data.train.1' should *, found 3"),
        ("data.test=", "'data.test' should *, found null"),
        (
            "data.node_features=pid",
            "'data.node_features' should be 'kin', 'kinpid', 'full' or 'iaformer', found \"pid\"",
        ),
        ("data.signal=''", "'data.signal' should * 1 *, found \"\""),
        ("data.signal=[top]", "'data.signal' should *, found [\"top\"]"),
        ("data.signal_efficiency=0.5", "'data.signal_efficiency' should *, found 0.5"),
        ("data.signal_efficiency={b: 9.5}", "'data.signal_efficiency.b' should * 1, found 9.5"),
        ("data.signal_efficiency.Hqql=0", "'data.signal_efficiency.Hqql' should * 0, found 0"),
        ("data.signal_efficiency.Hqql=true", "'data.signal_efficiency.Hqql' should *, found true"),
        ("data.signal_efficiency={4: 0.5}", "'data.signal_efficiency.4' should *, found 4"),
        ("data.batch_size=0", "'data.batch_size' should * 1, found 0"),
        ("data.batch_size=64.0", "'data.batch_size' should *, found 64.0"),
        ("data.masses=none", "'data.masses' should be 'stored' or 'zero', found \"none\""),
        ("data.max_particles=0", "'data.max_particles' should * 1, found 0"),
        (
            "model.name=part",
            "'model.name' should be 'iaformer', 'gated_iaformer', 'cascaded_iaformer', 'plain_transformer', "
            "'interaction_transformer', 'pair_transformer', 'learned_pair_iaformer', 'particle_transformer' or "
            "'particlenet', found \"part\"",
        ),
        (
            "model.neighbors=16",
            "unknown key 'model.neighbors': iaformer has no such key; valid keys: model.name, model.width, "
            "model.blocks, model.heads, model.particle_hidden, model.pair_hidden, model.pair_width, model.beta",
        ),
        (
            "data.pair_features=null",
            "'data.pair_features' should be 'invariant', 'iaformer' or 'part': 'model.name' iaformer needs pair feat",
        ),
        ("fine_tune={weights: a.pt}", "missing key 'fine_tune.new_head' (bool)"),
        ("fine_tune={weights: '', new_head: true}", "'fine_tune.weights' should * 1 *, found \"\""),
        ("fine_tune.frozen=[head]", "'fine_tune.frozen.0' should not name the head, which fine-tuning trains, "),
        ("fine_tune.frozen=[convs.0, head.3]", "'fine_tune.frozen.1' should not name the head"),
        ("fine_tune.head_learning_rate=0", "'fine_tune.head_learning_rate' should * 0, found 0"),
        ("model.heads=7", "'model.heads' should divide the width 30, found 7"),
        ("model.head=7", "unknown key 'model.head'; did you mean 'model.heads'?"),
        ("model.nam=x", "unknown key 'model.nam'; did you mean 'model.name'?"),
        ("batch_size=7", "unknown key 'batch_size'; did you mean 'data.batch_size'?"),
        ("model.pair_hidden=[8, 0]", "'model.pair_hidden.1' should * 1, found 0"),
        ("train.learning_rate=fast", "'train.learning_rate' should *, found \"fast\""),
        ("train.learning_rate=.nan", "'train.learning_rate' should *, found NaN"),
        ("train.min_learning_rate=1", "'train.min_learning_rate' should not exceed the learning rate 0.001, found 1"),
        ("train.warmup=1.0", "'train.warmup' should * 1, found 1.0"),
        ("train.clip=0", "'train.clip' should * 0, found 0"),
        ("train.precision=32", "'train.precision' should be '32-true', 'bf16-mixed' or '16-mixed', found 32"),
        ("train.device=gpu", "'train.device' should be 'auto', 'cpu', 'cuda' or 'mps', found \"gpu\""),
    ],
)
def test_problems(recipe, override, problem):
    with pytest.raises(ConfigError) as caught:
        load_config(recipe, [*FINE_TUNE, override] if override.startswith("fine_tune.") else [override])
    assert fits(f"command line: {problem}", str(caught.value))
    assert len(caught.value.args) == 1


def of_model(recipe, name, **data):
    """The recipe with another network, and pair features if it uses them."""
    pairs = None if name in WITHOUT_PAIRS else "part"
    values = VALUES | {"model": MODELS[name] | {"name": name}, "data": VALUES["data"] | {"pair_features": pairs} | data}
    recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
    return recipe


@pytest.mark.parametrize("name", MODELS)
def test_every_network_has_its_own_keys(recipe, tmp_path, name):
    config = load_config(of_model(recipe, name))
    assert config.model.name == name
    assert MODELS[name].items() <= config.model.model_dump().items()
    (tmp_path / "again.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize("name", MODELS)
def test_keys_that_define_a_network_have_no_default(recipe, name):
    for key in MODELS[name]:
        values = yaml.safe_load(of_model(recipe, name).read_text())
        del values["model"][key]
        with pytest.raises(ConfigError, match=f"^drawn: missing key 'model.{key}' "):
            validate(Config, values, "drawn")


@pytest.mark.parametrize("name", MODELS)
def test_pair_features_are_required_by_networks_that_use_them(recipe, name):
    if name == "particle_transformer":  # attends with or without
        load_config(of_model(recipe, name, pair_features=None))
        return
    if name in WITHOUT_PAIRS:
        problem = f"'data.pair_features' should be null: 'model.name' {name} takes no pair features, found \"part\""
        path = of_model(recipe, name, pair_features="part")
    else:
        problem = (
            f"'data.pair_features' should be 'invariant', 'iaformer' or 'part': 'model.name' {name} needs pair features"
        )
        path = of_model(recipe, name, pair_features=None)
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["seed=3"])
    assert str(caught.value) == f"{path}: {problem}"


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"particlenet"}))
def test_heads_must_divide_the_width(recipe, name):
    with pytest.raises(ConfigError, match=r"'model\.heads' should divide the width 30, found 7"):
        load_config(of_model(recipe, name), ["model.heads=7"])


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("model.channels=[]", "'model.channels' should * 1 "),
        ("model.channels=[[7], []]", "'model.channels.1' should * 1 "),
        ("model.channels=[64, 64]", "'model.channels.0' should *, found 64"),
        ("model.channels=[[7, 0]]", "'model.channels.0.1' should * 1, found 0"),
        ("model.dropout=1.0", "'model.dropout' should * 1, found 1.0"),
        ("model.width=30", "unknown key 'model.width': particlenet has no such key; valid keys: model.name, model.ch"),
        ("model.neighbours=3", "unknown key 'model.neighbours'; did you mean 'model.neighbors'?"),
    ],
)
def test_problems_of_particlenet(recipe, override, problem):
    with pytest.raises(ConfigError) as caught:
        load_config(of_model(recipe, "particlenet"), [override])
    assert fits(f"command line: {problem}", str(caught.value))


def test_compiled_gates_do_not_tighten(recipe):
    recipe = of_model(recipe, "gated_iaformer")
    assert load_config(recipe, ["train.compile=true"]).train.compile
    with pytest.raises(ConfigError, match=r"'train.tighten' should be 0 with 'train.compile', found 0.5: each step"):
        load_config(recipe, ["train.compile=true", "train.tighten=0.5"])


def test_tighten_requires_a_gate_or_rule(recipe):
    problem = "'train.tighten' should be 0: 'model.name' iaformer has no gate, and 'model.pruning' sets no rule"
    with pytest.raises(ConfigError, match=problem):
        load_config(recipe, ["train.tighten=0.5"])
    assert load_config(recipe, ["train.tighten=0.5", "model.pruning={rule: top_k, strength: 8}"]).train.tighten == 0.5
    assert load_config(of_model(recipe, "gated_iaformer"), ["train.tighten=0.5"]).train.tighten == 0.5


@pytest.mark.parametrize("name", ["iaformer", "cascaded_iaformer"])
def test_pruning_rule_round_trips(recipe, name, tmp_path):
    path = of_model(recipe, name)
    assert load_config(path).model.pruning is None
    config = load_config(path, ["model.pruning={rule: top_k, strength: 8}"])
    assert (config.model.pruning.rule, config.model.pruning.strength) == ("top_k", 8)
    (tmp_path / "again.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("pruning", "problem"),
    [
        (
            "{rule: topk, strength: 8}",
            "'model.pruning.rule' should be 'threshold', 'top_k', 'top_p' or",
        ),
        ("{rule: top_k, strength: 2.5}", "'model.pruning' k = 2.5: should be a whole number of at least 1"),
        ("{rule: top_mass, strength: 1.5}", "'model.pruning' p 1.5: should be in (0, 1]"),
        ("{rule: threshold, strength: 1.0}", "'model.pruning' threshold 1.0: should be in [0, 1)"),
        ("{rule: edge_budget, strength: 0}", "'model.pruning.strength' should * 0, found 0"),
        ("{rule: edge_budget}", "missing key 'model.pruning.strength'"),
    ],
)
def test_problems_of_a_pruning_rule(recipe, pruning, problem):
    with pytest.raises(ConfigError) as caught:
        load_config(recipe, [f"model.pruning={pruning}"])
    assert fits(f"*{problem}", str(caught.value))


def test_fine_tuning_section_round_trips(recipe, tmp_path):
    assert load_config(recipe).fine_tune is None
    (tmp_path / "plain.yaml").write_text(dump_config(load_config(recipe)), encoding="utf-8")
    config = load_config(tmp_path / "plain.yaml", [*FINE_TUNE, "fine_tune.frozen=[blocks.0]"])
    assert (config.fine_tune.weights, config.fine_tune.new_head) == ("a.pt", True)
    assert (config.fine_tune.head_learning_rate, config.fine_tune.frozen) == (None, ["blocks.0"])
    (tmp_path / "again.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "again.yaml") == config


def test_an_invalid_width_is_reported_once(recipe):
    with pytest.raises(ConfigError) as caught:
        load_config(recipe, ["model.width=wide"])
    (problem,) = caught.value.args
    assert fits("command line: 'model.width' should *, found \"wide\"", problem)


def test_many_classes_have_working_points_and_no_signal(recipe):
    config = load_config(recipe, ["data.signal=null", "data.signal_efficiency.Hqql=0.99"])
    assert (config.data.signal, config.data.signal_efficiency) == (None, {"Hqql": 0.99})
    assert load_config(recipe).data.signal_efficiency == {}


def test_every_key_is_described():
    text = describe_config()
    for key, field in fields(Config):
        assert f"[{key}]" in text or f"\n{key}: " in f"\n{text}"
        assert field.description or key == "model.name"  # what each name means stands below
    for name in MODELS:
        assert re.search(rf"\n\[model\] name: {name}\n    \w", text)
    assert "\ntrain.clip: float > 0 | null, required\n" in text
    assert "\ndata.signal_efficiency: mapping of names to float > 0 and <= 1, default {}\n" in text
    assert "\ntrain.precision: 32-true | bf16-mixed | 16-mixed, default \"32-true\"\n" in text  # fmt: skip
