from pathlib import Path

import pytest

from iagraph.train.config import load_config
from iagraph.train.folder import build_model

CONFIGS = Path(__file__).parents[1] / "configs"
RECIPES = sorted(path.name for path in CONFIGS.glob("*.yaml") if not path.name.startswith("generate"))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid_and_builds_its_model(name):
    config = load_config(CONFIGS / name)
    assert config.name == Path(name).stem
    assert build_model(config, ["gluon", "quark"]).head.out_features == 2


def test_there_are_recipes():
    assert {"qg.yaml", "qg_full.yaml"} <= set(RECIPES)
