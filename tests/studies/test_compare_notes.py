import re
from dataclasses import replace

import pytest
from studies.test_compare_tables import RESULTS
from toy_runs import RECIPE

from iagraph.metrics import Estimate
from iagraph.studies.compare.study import different_recipes, notes
from iagraph.train.config import load_config

NETS = {"IAFormer": "qg.yaml", "Q K": "qg_plain.yaml", "ParticleNet": "qg_particlenet.yaml", "ParT": "qg_part.yaml"}


def recipes(**overrides):
    """Recipes of the repository by name, with equal rates and epochs except for the overrides."""
    same = ["train.epochs=4", "train.learning_rate=3e-3"]
    return {
        name: load_config(RECIPE.with_name(file), [*same, *overrides.get(name.replace(" ", ""), [])])
        for name, file in NETS.items()
    }


def test_equal_recipes_of_different_models_have_no_notes():
    assert different_recipes(recipes()) == []


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        ({"IAFormer": ["train.epochs=2"]}, "train.epochs: 4, but IAFormer 2"),
        ({"ParT": ["data.batch_size=32"]}, "data.batch_size: 64, but ParT 32"),
        ({"ParT": ["data.max_pairs=9000"]}, "data.max_pairs: null, but ParT 9000"),
        (
            {"QK": ["data.node_features=kin"], "ParT": ["data.node_features=kin"]},
            "data.node_features: kinpid, but Q K, ParT kin",
        ),
        (
            {"IAFormer": ["train.clip=0.5"], "QK": ["train.clip=null"]},
            "train.clip: 1.0, but IAFormer 0.5; Q K null",
        ),
        (
            {"ParticleNet": ["fine_tune={weights: net.pt, new_head: true}"]},
            "fine_tune: null, but ParticleNet {weights: net.pt, new_head: true, head_learning_rate: null, frozen: []}",
        ),
    ],
)
def test_differing_values_are_listed_after_the_most_common_one(overrides, found):
    assert different_recipes(recipes(**overrides)) == [found]


def test_notes_state_seeds_jets_multiplicity_and_abbreviations():
    text = notes(recipes(), (7, 8), 12_000, 6000, [replace(RESULTS[0], multiplicity=Estimate(0.8341, 0.0052))])
    assert re.findall(r"\d+", text[0]) == ["7", "8"]
    assert "+-" in text[0]
    assert re.findall(r"[\d,]+\d", text[1]) == ["12,000", "6,000"]
    assert text[1].endswith("quark")
    assert sum("multiplicity" in note and "0.8341 +- 0.0052" in note for note in text) == 1
    for abbreviation in ("1/eB: ", "FLOP: "):
        assert sum(note.startswith(abbreviation) for note in text) == 1


def test_one_seed_has_no_spread():
    first, *_ = notes(recipes(), (7,), 12_000, 6000, RESULTS)
    assert re.findall(r"\d+", first) == ["7"]
    assert "+-" not in first
