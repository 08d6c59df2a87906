"""Training from given weights: frozen parts, new parts, and the record in the run."""

import csv
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_models import toy
from toy_runs import RECIPE, toy_jets, weights

from iagraph.data import StoreError, read_store, write_store
from iagraph.nn.pruning import TopK
from iagraph.train.config import load_config
from iagraph.train.datamodule import JetDataModule
from iagraph.train.evaluate import evaluate
from iagraph.train.folder import RunError, build_model, load_run, new_model
from iagraph.train.module import Tagger
from iagraph.train.origin import seen_before
from iagraph.train.run import train
from iagraph.train.schedules import warmup_cosine

CLASSES = ("gluon", "quark")
REAL = Path(os.environ.get("IAGRAPH_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "ParticleNet_kin.pt"


@pytest.fixture(scope="module")
def start(store, tmp_path_factory):
    """A finished run of a small ParticleNet."""
    return train(toy("particlenet", store, tmp_path_factory.mktemp("start"), "train.epochs=1"))


def tuned(start, store, output, *more, new_head="true"):
    section = [f"fine_tune.weights={start}", f"fine_tune.new_head={new_head}"]
    return toy("particlenet", store, output, "seed=5", "train.learning_rate=1e-2", *section, *more)


def under(state, *modules):
    return {key: value for key, value in state.items() if key.startswith(tuple(f"{name}." for name in modules))}


def equal(one, other):
    assert one.keys() == other.keys()
    return [torch.equal(one[key], other[key]) for key in one]


@pytest.mark.parametrize("new_head", [True, False])
def test_training_starts_from_the_weights(start, store, new_head):
    model = new_model(tuned(start, store, "runs", new_head=json.dumps(new_head)), CLASSES)
    found, given = model.state_dict(), weights(start)
    assert all(equal(under(found, "particle_norm", "convs"), under(given, "particle_norm", "convs")))
    assert any(equal(under(found, "head"), under(given, "head"))) != new_head


def test_weights_are_random_without_the_section(store):
    torch.manual_seed(3)
    one = new_model(toy("particlenet", store, "runs"), CLASSES).state_dict()
    torch.manual_seed(3)
    assert all(equal(one, build_model(toy("particlenet", store, "runs"), CLASSES).state_dict()))


class Watched(Tagger):
    """Record the mode of its modules in each training step."""

    seen: list

    def training_step(self, jets, batch_index):
        self.seen.append({name: module.training for name, module in self.model.named_modules()})
        return super().training_step(jets, batch_index)


@pytest.mark.parametrize(
    ("name", "frozen"),
    [
        ("particlenet", ("particle_norm", "convs.0")),
        ("particle_transformer", ("particle_norm", "pair_encoder", "blocks.0", "class_blocks.0.conv")),
    ],
)
def test_frozen_weights_are_unchanged(store, tmp_path, monkeypatch, name, frozen):
    start = train(toy(name, store, tmp_path / "start", "train.epochs=1", "data.max_jets=128"))
    monkeypatch.setattr("iagraph.train.run.Tagger", Watched)
    Watched.seen = []
    tune = [f"fine_tune.weights={start}", "fine_tune.new_head=false", f"fine_tune.frozen=[{','.join(frozen)}]"]
    folder = train(toy(name, store, tmp_path, "train.learning_rate=1e-2", *tune))
    before, after = weights(start), weights(folder)
    kept = under(before, *frozen)
    assert any("running_mean" in key for key in kept)
    assert any(key.endswith("bias") for key in kept)
    assert all(equal(kept, under(after, *frozen)))
    rest = {key for key in before if key not in kept and "scale" not in key.split(".")[0]}
    assert [key for key in rest if torch.equal(before[key], after[key])] == []
    assert len(Watched.seen) == 2 * 5  # of 300 jets in batches of 64; validation came between the epochs
    for modes in Watched.seen:
        still = {module for module, training in modes.items() if not training}
        assert still == {module for module in modes if f"{module}.".startswith(tuple(f"{top}." for top in frozen))}


def test_head_has_its_own_rate_under_the_same_schedule(start, store, tmp_path):
    config = tuned(start, store, tmp_path, "fine_tune.head_learning_rate=0.3", "fine_tune.frozen=[particle_norm]")
    tagger = Tagger(new_model(config, CLASSES), config.train, 1, 300, config.fine_tune)
    groups = tagger.configure_optimizers()["optimizer"].param_groups
    # The schedule starts at a hundredth of each rate.
    assert [group["lr"] for group in groups] == pytest.approx([1e-4, 1e-4, 3e-3, 3e-3])
    assert [group["weight_decay"] for group in groups] == [0.01, 0, 0.01, 0]
    found = [{id(parameter) for parameter in group["params"]} for group in groups]
    head, convs = tagger.model.head, tagger.model.convs
    assert found[2] == {id(head[0].weight), id(head[3].weight)}
    assert found[3] == {id(head[0].bias), id(head[3].bias)}
    assert found[0] | found[1] == {id(parameter) for parameter in convs.parameters()}
    folder = train(config)
    logged = {name: column(folder, f"lr-AdamW/{name}") for name in ("pg1", "pg2", "pg3", "pg4")}
    jets = (64, 128, 192, 256, 300, 364, 428, 492, 556, 600)  # seen before each step but the first
    for name, rate in {"pg1": 1e-2, "pg2": 1e-2, "pg3": 0.3, "pg4": 0.3}.items():
        expected = [rate * warmup_cosine(seen / 600, 0.1, 1e-4) for seen in (0, *jets[:-1])]
        assert logged[name] == pytest.approx(expected[3::4], rel=1e-6)


def test_head_has_the_common_rate_by_default(start, store):
    config = tuned(start, store, "runs")
    tagger = Tagger(new_model(config, CLASSES), config.train, 1, 300, config.fine_tune)
    groups = tagger.configure_optimizers()["optimizer"].param_groups
    assert [group["weight_decay"] for group in groups] == [0.01, 0]
    assert sum(len(group["params"]) for group in groups) == len(list(tagger.parameters()))


def test_only_the_head_is_trained(start, store, tmp_path):
    config = tuned(
        start, store, tmp_path, "train.epochs=1", "fine_tune.frozen=[particle_norm, convs]", new_head="false"
    )
    before, after = weights(start), weights(train(config))
    assert {key for key in before if not torch.equal(before[key], after[key])} == set(under(before, "head"))


def test_run_records_initial_weights_and_does_not_need_them(start, store, tmp_path):
    source = shutil.copytree(start, tmp_path / "source")
    folder = train(tuned(source, store, tmp_path, "train.epochs=1"))
    digest = hashlib.sha256((source / "model.pt").read_bytes()).hexdigest()
    assert json.loads((folder / "model.json").read_text())["started_from"] == {str(source): digest}
    shutil.rmtree(source)
    assert all(equal(load_run(folder).model.state_dict(), weights(folder)))
    evaluate(folder)


def test_run_from_random_weights_records_none(start):
    assert json.loads((start / "model.json").read_text())["started_from"] == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["fine_tune.frozen=[convs.0, convs.7]"], r"particlenet has no 'convs\.7'; it has .*convs"),
        (["fine_tune.weights=gone.pt"], r"fine_tune\.weights: gone\.pt: no such file"),
        (["model.head_hidden=13", "fine_tune.new_head=false"], r"different task:\n  model\.head_hidden is 13, in"),
        (["model.channels=[[7, 5]]"], r"different task:\n  model\.channels is \[\[7, 5\]\], in that run"),
        (["data.node_features=kin"], r"different task:\n  data\.node_features is kin, in that run kinpid"),
    ],
)
def test_errors_are_reported_before_writing(start, store, tmp_path, changes, message):
    with pytest.raises(RunError, match=message):
        train(tuned(start, store, tmp_path / "runs", *changes))
    assert not (tmp_path / "runs").exists()


def test_official_particlenet(store, tmp_path):
    if not REAL.exists():
        pytest.skip(f"no {REAL}: set IAGRAPH_TEST_DATA to the folder that holds this official checkpoint")
    files = [f"data.{role}={store}" for role in ("train", "val", "test")]
    changes = [f"output={tmp_path}", "train.epochs=1", "train.device=cpu", "data.max_jets=40", "data.batch_size=20"]
    tune = [f"fine_tune.weights={REAL}", "fine_tune.frozen=[particle_norm, convs.0]"]
    folder = train(load_config(RECIPE.with_name("qg_finetune.yaml"), [*files, *changes, *tune]))
    theirs, ours = torch.load(REAL, weights_only=True, map_location="cpu"), weights(folder)
    for name, given in (("weight", "weight"), ("bias", "bias"), ("running_mean", "running_mean")):
        assert torch.equal(ours[f"particle_norm.{name}"], theirs[f"mod.bn_fts.{given}"])
    for layer in range(3):
        kept = theirs[f"mod.edge_convs.0.convs.{layer}.weight"][:, :, 0, 0]
        assert torch.equal(ours[f"convs.0.linears.{layer}.weight"], kept)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            given = theirs[f"mod.edge_convs.0.bns.{layer}.{name}"]
            assert torch.equal(ours[f"convs.0.norms.{layer}.{name}"], given)
    moved = ours["convs.1.linears.0.weight"] - theirs["mod.edge_convs.1.convs.0.weight"][:, :, 0, 0]
    assert 0 < moved.abs().max() < 1e-3  # two steps of at most 1e-4
    assert ours["head.3.weight"].shape == (2, 256)


def column(folder, name):
    with (folder / "log" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def test_jets_of_the_first_training_are_recorded_and_refused(start, store, tmp_path):
    one, two = toy_jets(200, 7), toy_jets(200, 8)
    write_store(tmp_path / "one.h5", one)
    write_store(tmp_path / "two.h5", two)
    others = [f"data.train={tmp_path / 'one.h5'}", f"data.test={tmp_path / 'two.h5'}"]
    known = tmp_path / "known.h5"
    write_store(known, read_store(store, "train"))
    for role in ("val", "test"):
        config = tuned(start, store, tmp_path / "runs", *others, f"data.{role}={known}")
        with pytest.raises(StoreError, match=f"data.{role}: the initial weights or the teacher were trained on some"):
            train(config)
    assert not (tmp_path / "runs").exists()
    second = train(tuned(start, store, tmp_path / "runs", *others, "train.epochs=1"))
    third = train(tuned(second, store, tmp_path / "runs", *others, "train.epochs=1"))
    for run in (second, third):
        with pytest.raises(RunError, match=r"known\.h5: the model was trained on 100% of these jets"):
            evaluate(run, str(known))


def test_streamed_jets_of_the_first_training_are_refused(store, tmp_path):
    start = train(toy("particlenet", store, tmp_path, "train.epochs=1", "data.in_memory=false"))
    whole = tmp_path / "whole.h5"  # a file without recorded splits
    write_store(whole, toy_jets(100, 9))
    config = tuned(start, store, tmp_path, "data.in_memory=false", f"data.train={whole}")
    assert len(seen_before(config)[1]) == 1
    data = JetDataModule(config.data, 1)
    data.add_seen(*seen_before(config))
    assert len(data.parts) == 2
    test = seen_before(config)[1][0]._replace(begin=390, end=400)  # store has 300 + 80 + 120 jets
    with pytest.raises(StoreError, match=r"data\.test: the initial weights"):
        data.add_seen(np.zeros(0, np.uint64), [test])


def test_run_for_a_different_task_is_refused_even_if_shapes_agree(start, store, tmp_path):
    config = tuned(start, store, tmp_path, "model.neighbors=3", "model.dropout=0.3", new_head="false")
    with pytest.raises(RunError, match=r"trained for a different task:\n  model\.neighbors is 3, in that run \d+"):
        new_model(config, CLASSES)
    config = tuned(start, store, tmp_path, new_head="false")
    with pytest.raises(RunError, match=r"classes is \('QCD', 'top'\), in that run \('gluon', 'quark'\)"):
        new_model(config, ("QCD", "top"))
    new_model(tuned(start, store, tmp_path), ("QCD", "top"))  # with a new head, classes may differ
    shutil.copy(start / "model.pt", tmp_path / "model.pt")  # a single file gives only shapes
    new_model(tuned(tmp_path / "model.pt", store, tmp_path, "model.neighbors=3"), CLASSES)


def test_single_parameters_can_be_frozen(store, tmp_path):
    start = train(toy("particle_transformer", store, tmp_path, "train.epochs=1", "data.max_jets=128"))
    frozen = "fine_tune.frozen=[class_token, blocks.0.head_scale]"
    tune = [f"fine_tune.weights={start}", "fine_tune.new_head=true", frozen, "data.max_jets=128"]
    folder = train(toy("particle_transformer", store, tmp_path, "train.learning_rate=1e-2", *tune))
    before, after = weights(start), weights(folder)
    for name in ("class_token", "blocks.0.head_scale"):
        assert torch.equal(before[name], after[name])
    assert not torch.equal(before["blocks.0.residual_scale"], after["blocks.0.residual_scale"])


def test_pruning_rule_may_differ_as_it_has_no_weights(store, tmp_path):
    start = train(toy("iaformer", store, tmp_path, "train.epochs=1"))
    rule = "model.pruning={rule: top_k, strength: 2}"
    tune = [f"fine_tune.weights={start}", "fine_tune.new_head=false"]
    model = new_model(toy("iaformer", store, tmp_path, rule, *tune), CLASSES)
    assert all(equal(model.state_dict(), weights(start)))
    assert all(conv.pruning == TopK(k=2) for conv in model.convs())
