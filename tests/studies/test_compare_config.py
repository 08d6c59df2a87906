import re

import pytest

from iagraph.studies.compare.config import CompareConfig, load_comparison, slug
from iagraph.yaml_config import ConfigError, describe


def test_each_model_and_seed_has_its_own_folder(write, tmp_path):
    comparison = load_comparison(write(seeds=(7, 3)))
    runs = [(run.model, run.config.seed, run.folder.relative_to(tmp_path).as_posix()) for run in comparison.runs]
    assert runs == [
        ("IAFormer", 7, "studies/toy/iaformer/seed-7"),
        ("Q & K", 7, "studies/toy/q-k/seed-7"),
        ("IAFormer", 3, "studies/toy/iaformer/seed-3"),
        ("Q & K", 3, "studies/toy/q-k/seed-3"),
    ]
    assert {run.config.train.epochs for run in comparison.runs} == {2}
    assert [run.config.model.name for run in comparison.runs[:2]] == ["iaformer", "plain_transformer"]


def test_overrides_on_the_command_line(write):
    comparison = load_comparison(write(), ["seeds=[5]", "name=other"])
    assert (comparison.seeds, comparison.folder.name) == ((5,), "other")


def test_changes_of_single_recipes(write):
    path = write(recipes={"A": "qg.yaml", "B": ["qg.yaml", "model.width=16", "train.epochs=5"]})
    recipes = load_comparison(path).recipes
    assert [recipe.model.width for recipe in recipes.values()] == [32, 16]
    assert [recipe.train.epochs for recipe in recipes.values()] == [2, 5]  # after the changes of all


def test_reference_must_be_a_model(write):
    assert load_comparison(write(), ["reference=Q & K"]).reference == "Q & K"
    with pytest.raises(ConfigError, match="reference: 'ParT' should be one of IAFormer, Q & K"):
        load_comparison(write(), ["reference=ParT"])


def test_all_problems_of_all_recipes_are_reported_at_once(write, tmp_path):
    path = write(recipes={"A": "qg.yaml", "B": "gone.yaml", "C": "qg_plain.yaml"}, overrides=["model.pair_width=many"])
    text = (tmp_path / "qg_plain.yaml").read_text()
    (tmp_path / "qg_plain.yaml").write_text(text.replace("clip: 1.0", "clap: 1.0"))
    with pytest.raises(ConfigError) as error:
        load_comparison(path)
    lines = str(error.value).splitlines()
    overrides = f" with the overrides of {path}: "
    assert any(line.startswith(f"{tmp_path / 'qg.yaml'}{overrides}'model.pair_width' should be") for line in lines)
    assert any(line.startswith(f"{tmp_path / 'gone.yaml'}: no such file") for line in lines)
    assert any(line.startswith(f"{tmp_path / 'qg_plain.yaml'}: unknown key 'train.clap'") for line in lines)
    assert any(
        line.startswith(f"{tmp_path / 'qg_plain.yaml'}{overrides}unknown key 'model.pair_width'") for line in lines
    )


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("max_particles", "7", "null in IAFormer; 7 in Q & K"),
        ("max_jets", "100", "null in IAFormer; 100 in Q & K"),
        ("masses", "stored", '"zero" in IAFormer; "stored" in Q & K'),
        ("signal", "gluon", '"quark" in IAFormer; "gluon" in Q & K'),
    ],
)
def test_different_jets_are_refused(write, tmp_path, key, value, found):
    path = write()
    text = re.sub(rf"  {key}: .*\n", "", (tmp_path / "qg_plain.yaml").read_text())
    (tmp_path / "qg_plain.yaml").write_text(text.replace("  batch_size", f"  {key}: {value}\n  batch_size"))
    with pytest.raises(
        ConfigError, match=rf"compare\.yaml: .* the same jets, but data\.{key} is {found}; make it equal"
    ):
        load_comparison(path)


def test_equivalent_paths_are_the_same_files(write, store, tmp_path, monkeypatch):
    monkeypatch.chdir(store.parent)
    path = write()
    for name, file in (("qg.yaml", store.name), ("qg_plain.yaml", f"./{store.name}")):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace("sample:qg", file))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "data." not in line))
    assert [recipe.data.train for recipe in load_comparison(path).recipes.values()] == [["toy.h5"], ["./toy.h5"]]
    (tmp_path / "qg.yaml").write_text((tmp_path / "qg.yaml").read_text().replace("val: toy.h5", "val: other.h5"))
    with pytest.raises(ConfigError, match=r'data\.val is \["other\.h5"\] in IAFormer; \["\./toy\.h5"\] in Q & K'):
        load_comparison(path)


def test_features_and_batches_may_differ(write, tmp_path):
    path = write()
    text = (tmp_path / "qg_plain.yaml").read_text()
    (tmp_path / "qg_plain.yaml").write_text(text.replace("kinpid", "kin").replace("batch_size: 64", "batch_size: 32"))
    features = [recipe.data.node_features for recipe in load_comparison(path).recipes.values()]
    assert features == ["kinpid", "kin"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (1, 2, 1)}, "'seeds' should name each seed once"),
        ({"seeds": (1, -2)}, "'seeds.1' should .* 0"),
        ({"recipes": {"Q K": "qg.yaml", "q+k": "qg.yaml"}}, "differ in more than punctuation and case: 'Q K', 'q\\+k'"),
        ({"recipes": {"β": "qg.yaml"}}, "of which 'β' has none"),
        ({"overrides": ["train.epochs"]}, "'train.epochs' should have the form key.sub=value"),
    ],
)
def test_errors_are_named(write, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_comparison(write(**changes))


@pytest.mark.parametrize(
    ("recipes", "message"),
    [
        ("{1: qg.yaml}", "'recipes' should have strings as names: put 1 in quotes"),
        ("{yes: qg.yaml}", "'recipes' should have strings as names: put true in quotes"),
        ("[qg.yaml]", r"'recipes' should name files, as in \{IAFormer: qg\.yaml, .*\}, found \[\"qg\.yaml\"\]"),
        ("{}", r"'recipes' should name files, as in \{IAFormer: qg\.yaml"),
        ("{A: []}", r"'recipes\.A' should .*"),
    ],
)
def test_invalid_recipes(write, recipes, message):
    with pytest.raises(ConfigError, match=message):
        load_comparison(write(), [f"recipes={recipes}"])


def test_every_key_is_described():
    text = describe(CompareConfig)
    for key in ("name", "seeds", "recipes", "overrides", "output"):
        assert f"{key}: " in text


def test_slug():
    assert slug("Q K + pair bias") == "q-k-pair-bias"
