"""Every model that a configuration can name is trained, recorded and loaded again."""

import copy
import json

import numpy as np
import pytest
import torch
from toy_models import TOYS, toy
from toy_runs import FILES

from iagraph.data import JetDataset, JetLoader, read_store
from iagraph.models import CascadedIAFormer, GatedIAFormer, IAFormer, LearnedPairIAFormer
from iagraph.models.registry import MODELS
from iagraph.nn import TopP
from iagraph.train.config import Config
from iagraph.train.folder import build_model, load_run, new_model, read_history
from iagraph.train.run import train
from iagraph.yaml_config import fields


def test_configurations_list_all_models():
    named = {choice for key, field in fields(Config) if key == "model.name" for choice in field.annotation.__args__}
    assert named == set(MODELS) == set(TOYS)


@pytest.mark.parametrize("name", ["iaformer", "cascaded_iaformer"])
def test_pruning_rule_reaches_the_attention_layers(store, name):
    rule = "model.pruning={rule: top_mass, strength: 0.9}"
    model = build_model(toy(name, store, "runs", rule), ("a", "b"))
    assert [conv.pruning for conv in model.convs()] == [TopP(p=0.9)]


@pytest.mark.parametrize("name", TOYS)
def test_sizes_reach_the_model(store, name):
    config = toy(name, store, "runs")
    model = build_model(config, ("a", "b", "c"))
    assert type(model) is MODELS[name]
    torch.manual_seed(7)
    model = build_model(config, ("a", "b", "c"))
    torch.manual_seed(7)
    pairs = {} if TOYS[name][0] is None else {"pair_features": TOYS[name][0]}
    same = MODELS[name](node_features="kinpid", num_classes=3, **pairs, **TOYS[name][1])
    assert same.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in same.state_dict().items())
    assert [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)] == [
        module.p for module in same.modules() if isinstance(module, torch.nn.Dropout)
    ]


@pytest.mark.parametrize("name", TOYS)
def test_every_model_can_be_trained(store, tmp_path, monkeypatch, name):
    before = {}

    def remembered(config, classes):
        model = new_model(config, classes)
        before.update(copy.deepcopy(dict(model.named_parameters())))
        return model

    monkeypatch.setattr("iagraph.train.run.new_model", remembered)
    folder = train(toy(name, store, tmp_path, "data.max_jets=128", "train.learning_rate=1e-2"))
    assert {path.name for path in folder.iterdir()} >= FILES
    history = read_history(folder)
    assert len(history) == 2
    assert np.isfinite([[row["train_loss"], row["val_loss"]] for row in history]).all()
    run = load_run(folder)
    assert type(run.model) is MODELS[name]
    after = dict(run.model.named_parameters())
    assert before.keys() == after.keys()
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    # In the batches of the evaluation, so that even rounding is the same.
    loader = JetLoader(JetDataset(read_store(store, "test")), run.config.data.batch_size)
    with torch.no_grad():
        logits = torch.cat([run.model.eval()(run.config.data.view(jets)) for jets in loader])
    np.testing.assert_array_equal(logits, np.load(folder / "predictions.npz")["logits"])
    metrics = json.loads((folder / "metrics.json").read_text())
    assert bool(metrics["beta"]) == (MODELS[name] in (IAFormer, GatedIAFormer, CascadedIAFormer, LearnedPairIAFormer))
    assert metrics["cost"]["parameters"] == sum(value.numel() for value in after.values())
    assert (folder / "report.md").read_text().splitlines()[2].startswith(f"| {name} | ")
