from dataclasses import replace

import pytest
from studies.test_compare_tables import RESULTS
from toy_runs import RECIPE

from iagraph.metrics import Estimate
from iagraph.studies.compare.study import different_recipes, notes
from iagraph.train.config import load_config

NETS = {"IAFormer": "qg.yaml", "Q K": "qg_plain.yaml", "ParticleNet": "qg_particlenet.yaml", "ParT": "qg_part.yaml"}


def recipes(**overrides):
    """The recipes of the repository by their names, all with the same rates and epochs but for the overrides."""
    same = ["train.epochs=4", "train.learning_rate=3e-3"]
    return {
        name: load_config(RECIPE.with_name(file), [*same, *overrides.get(name.replace(" ", ""), [])])
        for name, file in NETS.items()
    }


def test_equal_recipes_need_no_notes_whatever_the_models():
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
def test_the_value_of_most_models_then_those_of_others(overrides, found):
    assert different_recipes(recipes(**overrides)) == [found]


def test_what_the_numbers_mean():
    text = notes(recipes(), (7, 8), 12_000, 6000, [replace(RESULTS[0], multiplicity=Estimate(0.8341, 0.0052))])
    assert text[:2] == [
        "each model trained with the seeds 7, 8; +- is the sample standard deviation over these runs",
        "12,000 training jets, 6,000 test jets, signal: quark",
    ]
    assert "multiplicity alone reaches an AUC of 0.8341 +- 0.0052 on these jets" in text
    assert any(note.startswith("1/eB: background rejection, one over") for note in text)
    assert text[-1] == "FLOP: matrix products of one forward pass, two per multiply-add"


def test_one_seed_has_no_spread():
    first, *_ = notes(recipes(), (7,), 12_000, 6000, RESULTS)
    assert first.startswith("each model trained with the seed 7 only: there is no spread")
