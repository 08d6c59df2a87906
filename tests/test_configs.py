import re
from pathlib import Path

import pytest

from iagraph.models import ParticleNet, ParticleTransformer
from iagraph.models.registry import MODELS
from iagraph.train.config import load_config
from iagraph.train.folder import build_model

CONFIGS = Path(__file__).parents[1] / "configs"
RECIPES = sorted(
    path.name for path in CONFIGS.glob("*.yaml") if not path.name.startswith(("generate", "compare", "curve"))
)


CLASSES = {
    "qg": ("gluon", "quark"),
    "top": ("QCD", "top"),
    "jetclass": ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid_and_builds_its_model(name):
    config = load_config(CONFIGS / name)
    assert config.name == Path(name).stem
    classes = CLASSES[config.name.partition("_")[0]]
    *_, last = build_model(config, classes).head.modules()
    assert last.out_features == len(classes)
    if len(classes) == 2:
        assert config.data.signal in classes
    else:
        assert config.data.signal is None
    assert set(config.data.signal_efficiency) <= set(classes[1:])


def test_there_are_recipes():
    assert {"qg.yaml", "qg_full.yaml", "top.yaml", "jetclass.yaml"} <= set(RECIPES)
    models = {load_config(CONFIGS / name).model.name for name in RECIPES}
    assert models == set(MODELS)


@pytest.mark.parametrize("name", ["plain", "interaction", "pair", "learned_pair"])
def test_ablations_differ_from_iaformer_only_by_the_model(name):
    iaformer, other = (load_config(CONFIGS / f"{stem}.yaml").model_dump() for stem in ("qg", f"qg_{name}"))
    assert other["train"] == iaformer["train"]
    assert other["seed"] == iaformer["seed"]
    given = {"pair_features": other["data"]["pair_features"]}
    assert other["data"] == iaformer["data"] | given
    assert given["pair_features"] in (None, iaformer["data"]["pair_features"])
    sizes = {key: value for key, value in other["model"].items() if key != "name"}
    assert sizes.items() <= iaformer["model"].items()


@pytest.mark.parametrize(("name", "model"), [("part", ParticleTransformer), ("particlenet", ParticleNet)])
def test_baselines_have_the_published_sizes(name, model):
    config = load_config(CONFIGS / f"qg_{name}.yaml")
    here, published = build_model(config, CLASSES["qg"]), model(config.data.node_features)  # their defaults
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (here, published)]
    assert shapes[0] == shapes[1]
    assert config.data.batch_size == load_config(CONFIGS / "qg.yaml").data.batch_size


def test_fine_tuning_has_lower_rates_except_for_the_head():
    config, scratch = (load_config(CONFIGS / name) for name in ("qg_finetune.yaml", "qg_particlenet.yaml"))
    assert config.train.learning_rate == pytest.approx(scratch.train.learning_rate / 10)
    assert config.fine_tune.head_learning_rate == pytest.approx(10 * config.train.learning_rate)
    assert (config.data.node_features, config.model) == ("kin", scratch.model)


@pytest.mark.parametrize(
    ("name", "declared"), [("qg_particlenet.yaml", {"epochs"}), ("qg_part.yaml", {"learning_rate"})]
)
def test_baselines_train_like_iaformer_with_stated_exceptions(name, declared):
    mine, theirs = (load_config(CONFIGS / recipe).train.model_dump() for recipe in ("qg.yaml", name))
    assert {key for key in mine if mine[key] != theirs[key]} == declared


def test_jetclass_uses_the_published_working_points():
    assert load_config(CONFIGS / "jetclass.yaml").data.signal_efficiency == {"Hqql": 0.99, "Tbl": 0.995}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_set_the_treatment_of_masses(name):
    text = (CONFIGS / name).read_text(encoding="utf-8")
    assert re.search(r"^  masses: |^extends: (qg|qg_lite)$", text, flags=re.MULTILINE)
    published = "stored" if name.startswith("jetclass") else "zero"  # as in published results on such jets
    assert load_config(CONFIGS / name).data.masses == published
