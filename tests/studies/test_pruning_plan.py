import pytest
import torch
from toy_runs import RECIPE

from iagraph.interpret.edges import CONTROLS
from iagraph.models import IAFormer, ParticleNet
from iagraph.nn.pruning import RULES, EdgeBudget, Threshold, TopK
from iagraph.studies.pruning.rules import (
    MEANINGS,
    STRENGTHS,
    default_rules,
    describe_rules,
    parse_rule,
    parse_rules,
    prunable,
    retrained_variants,
    variants,
)
from iagraph.train.config import load_config
from iagraph.train.folder import Run, RunError
from iagraph.yaml_config import ConfigError


def tiny(pruning=None):
    torch.manual_seed(2)
    return IAFormer("kin", "invariant", 2, 8, 2, 2, (5,), (7,), 3, pruning=pruning)


def test_rules_of_the_command_line():
    rules = parse_rules(["top_k=8,4,8", "edge_budget=0.3"])
    assert [rule.rule for rule in rules] == [TopK(k=8), TopK(k=4), EdgeBudget(fraction=0.3)]
    assert list(map(str, rules)) == ["top_k=8", "top_k=4", "edge_budget=0.3"]
    assert parse_rules(["top_mass=0.9"]) == parse_rules(["top_p=0.9"])  # its former name
    (rule,) = parse_rules(["threshold=1e-2"], per_head=True, renormalize=True)
    assert rule.rule == Threshold(0.01, per_head=True, renormalize=True)


@pytest.mark.parametrize(
    ("texts", "problems"),
    [
        (["top=3"], ["'top=3': unknown pruning rule 'top'; there are threshold, top_k, top_p, edge_budget"]),
        (["top_k"], ["'top_k' should be a rule and its numbers, as in top_k=8,4"]),
        (["top_k=8,"], ["'top_k=8,' should be a rule and its numbers"]),
        (["top_k=2.5"], ["'top_k=2.5': k = 2.5: should be a whole number"]),
        (["top_k=nan"], ["'top_k=nan': k = nan: should be a whole number"]),
        (["edge_budget=0", "top_mass=2"], ["'edge_budget=0': fraction 0.0: should", "'top_mass=2': p 2.0: should"]),
    ],
)
def test_wrong_rules(texts, problems):
    with pytest.raises(ConfigError) as error:
        parse_rules(texts)
    found = str(error.value).splitlines()
    assert len(found) == len(problems)
    for line, problem in zip(found, problems, strict=True):
        assert line.startswith(f"command line: {problem}")


def test_one_rule():
    assert parse_rule("top_k=3").rule == TopK(k=3)
    with pytest.raises(ConfigError, match="'top_k=3,4' should be one rule with one number"):
        parse_rule("top_k=3,4")


def test_every_rule_has_defaults_and_a_description():
    assert STRENGTHS.keys() == RULES.keys()
    assert len(default_rules()) == sum(map(len, STRENGTHS.values()))
    assert default_rules(per_head=True)[0].rule.per_head
    assert describe_rules().splitlines()[:2] == ["threshold=0.003,0.01,0.03,0.1", f"    {MEANINGS['threshold']}"]
    assert MEANINGS.keys() == RULES.keys()


def test_rule_is_set_in_all_layers_of_a_copy():
    model = tiny().train()
    found = variants(model, parse_rules(["top_k=3", "edge_budget=0.4,0.2"]))
    assert list(map(str, found)) == [
        *("unpruned", "top_k=3", "edge_budget=0.4", "edge_budget=0.2"),
        *("random: 0.4", "random: 0.2", "largest kT: 0.4", "largest kT: 0.2"),
        *("smallest Delta R: 0.4", "smallest Delta R: 0.2", "nearest neighbors: 3"),
    ]
    rules = [[conv.pruning for conv in variant.tagger.convs()] for variant in found]
    assert (
        rules
        == [[None] * 2, [TopK(k=3)] * 2, [EdgeBudget(fraction=0.4)] * 2, [EdgeBudget(fraction=0.2)] * 2]
        + [[None] * 2] * 7
    )
    assert [conv.pruning for conv in model.convs()] == [None] * 2
    assert model.training
    assert not any(variant.tagger.training for variant in found)


def test_controls_have_defaults_without_their_rule():
    found = [variant.family for variant in variants(tiny(), parse_rules(["threshold=0.1"]))]
    assert [found.count(name) for name in CONTROLS] == [5, 5, 5, 4]


def test_models_trained_with_a_rule_are_measured_with_and_without_it():
    first, second, *_ = variants(tiny(TopK(k=2)), [])
    assert (str(first), str(second)) == ("unpruned", "as trained")
    assert [variant.tagger.convs()[1].pruning for variant in (first, second)] == [None, TopK(k=2)]


def test_names_of_retrained_models():
    unpruned, variant = retrained_variants({None: tiny(), parse_rule("top_k=2"): tiny(TopK(k=2))})
    assert (str(unpruned), unpruned.strength) == ("unpruned, retrained", None)
    assert str(variant) == "top_k=2, retrained"
    assert (variant.family, variant.strength) == ("top_k, retrained", 2)


def test_models_without_edges_to_prune(tmp_path):
    config = load_config(RECIPE.with_name("qg_particlenet.yaml"))
    message = (
        r"particlenet has no edges that a rule could prune; these models have: iaformer, gated_iaformer, "
        r"cascaded_iaformer, plain_transformer, interaction_transformer, pair_transformer, learned_pair_iaformer$"
    )
    with pytest.raises(RunError, match=message):
        prunable(Run(config, ("a", "b"), ParticleNet("kin"), None, []), tmp_path)
