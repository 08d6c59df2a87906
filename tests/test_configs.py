from pathlib import Path

import pytest

from iagraph.train.config import load_config
from iagraph.train.folder import build_model

CONFIGS = Path(__file__).parents[1] / "configs"
RECIPES = sorted(path.name for path in CONFIGS.glob("*.yaml") if not path.name.startswith("generate"))


CLASSES = {
    "qg": ("gluon", "quark"),
    "top": ("QCD", "top"),
    "jetclass": ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid_and_builds_its_model(name):
    config = load_config(CONFIGS / name)
    assert config.name == Path(name).stem
    classes = CLASSES[config.name.removesuffix("_full")]
    assert build_model(config, classes).head.out_features == len(classes)
    if len(classes) == 2:
        assert config.data.signal in classes
    else:
        assert config.data.signal is None
    assert set(config.data.signal_efficiency) <= set(classes[1:])


def test_there_are_recipes():
    assert {"qg.yaml", "qg_full.yaml", "top.yaml", "jetclass.yaml"} <= set(RECIPES)


def test_jetclass_is_judged_at_the_published_working_points():
    assert load_config(CONFIGS / "jetclass.yaml").data.signal_efficiency == {"Hqql": 0.99, "Tbl": 0.995}
