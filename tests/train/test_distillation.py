"""Training with a teacher."""

import json
import shutil
from hashlib import sha256

import numpy as np
import pytest
import torch
from interrupted_runs import STEPS, StopError, assert_same, stopped_at
from interrupted_runs import toy as dropping_out
from lightning import Trainer
from toy_models import toy
from toy_runs import toy_jets, weights

from iagraph.data import JetDataset, JetLoader, StoreError, write_store
from iagraph.jets import JetBatch
from iagraph.models import CheckpointError
from iagraph.models.registry import load
from iagraph.train import run as training
from iagraph.train.distillation import load_teacher, targets
from iagraph.train.evaluate import evaluate
from iagraph.train.folder import RunError
from iagraph.train.module import Tagger
from iagraph.train.run import resume, train, train_into
from iagraph.yaml_config import ConfigError


@pytest.fixture(scope="module")
def teacher(store, tmp_path_factory):
    """A finished run with the model that the students of these tests get, and other weights."""
    return train(toy("iaformer", store, tmp_path_factory.mktemp("teacher"), "train.epochs=1", "seed=2"))


def taught(teacher, store, output, *more, weight=0.3, name="iaformer"):
    section = f"distill={json.dumps({'teacher': str(teacher), 'weight': weight})}"
    return toy(name, store, output, section, "train.epochs=2", *more)


def test_targets_by_hand(teacher):
    model, jets = load(teacher), JetDataset(toy_jets(71, 5))
    logits = model(jets[:]).detach().double().numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = 0.3 * p + 0.7 * np.eye(2)[jets.label]
    found = targets(model, jets, 0.3, torch.device("cpu"))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not found.requires_grad


def test_targets_follow_their_jets():
    jets = JetDataset(toy_jets(41, 5))
    jets.targets = torch.stack([torch.arange(41.0), torch.zeros(41)], dim=1)
    number = {tuple(jets[jet].momenta.pt.tolist()): jet for jet in range(41)}
    seen = []
    for batch in JetLoader(jets, 7, shuffle=True, seed=3):
        again = JetBatch.concatenate([batch.part(2, 5), batch.part(0, 2)]) if len(batch) == 7 else batch
        for one in (again, again.padded(60), again.double()):
            found = [number[tuple(jet.pt.float().tolist())] for jet in again.to_data_list()]
            assert one.targets[:, 0].tolist() == found
        seen += found
    assert len(set(seen)) == len(seen) > 21


def test_a_student_equal_to_its_teacher_has_nothing_to_learn_from_it(teacher):
    jets, student = JetDataset(toy_jets(23, 6), masses="zero"), load(teacher)

    def gradient(weight):
        jets.targets = targets(student, jets, weight, torch.device("cpu"))
        tagger = Tagger(student.model, toy("iaformer", "unused", "unused").train, 1, jets_per_epoch=23)
        tagger.log = lambda *_, **__: None
        tagger.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        student.zero_grad()
        tagger.training_step(jets[:], 0).backward()
        return torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])

    of_labels, half, of_teacher = (gradient(weight) for weight in (0.0, 0.5, 1.0))
    assert of_labels.norm() > 1e-2
    assert of_teacher.norm() < 1e-5 * of_labels.norm()
    torch.testing.assert_close(half, 0.5 * of_labels, rtol=1e-3, atol=1e-6)


def test_training_with_a_teacher(teacher, store, tmp_path):
    run, alone = (train(taught(teacher, store, tmp_path, *more)) for more in ((), ("distill=null",)))
    mine, other = weights(run), weights(alone)
    assert mine.keys() == other.keys()
    moved = max((mine[key] - other[key]).abs().max() for key in mine if mine[key].is_floating_point())
    assert moved > 1e-4
    digest = sha256((teacher / "model.pt").read_bytes()).hexdigest()
    assert json.loads((run / "model.json").read_text())["started_from"] == {str(teacher): digest}
    stored = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert not any("teacher" in key for key in stored)


def test_a_run_needs_its_teacher_no_more(teacher, store, tmp_path):
    borrowed = shutil.copytree(teacher, tmp_path / "borrowed")
    run = train(taught(borrowed, store, tmp_path))
    shutil.rmtree(borrowed)
    evaluate(run)


def test_an_interrupted_run_resumes_exactly(store, tmp_path, monkeypatch):
    teacher = train(dropping_out(store, tmp_path, "train.epochs=1", "seed=2"))
    config = dropping_out(store, tmp_path, f"distill={json.dumps({'teacher': str(teacher), 'weight': 0.6})}")
    train_into(tmp_path / "undisturbed", config)
    with stopped_at(monkeypatch, (Tagger, "training_step"), STEPS + 2), pytest.raises(StopError):
        train_into(tmp_path / "run", config)
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", tmp_path / "undisturbed")


def test_interrupted_while_the_teacher_sees_the_jets(teacher, store, tmp_path, monkeypatch):
    with stopped_at(monkeypatch, (training, "targets"), 1, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        train(taught(teacher, store, tmp_path / "runs"))
    assert not list((tmp_path / "runs").iterdir())


def test_jets_of_the_teacher_are_recorded_and_refused(teacher, store, tmp_path):
    for number, name in enumerate(("one", "two")):
        write_store(tmp_path / f"{name}.h5", toy_jets(200, 7 + number))
    others = [f"data.train={tmp_path / 'one.h5'}", f"data.val={tmp_path / 'two.h5'}"]
    student = train(taught(teacher, store, tmp_path, *others))
    trained = [set(np.load(run / "trained_on.npy").tolist()) for run in (teacher, student)]
    assert trained[0] < trained[1]
    known = [f"data.train={tmp_path / 'two.h5'}", f"data.val={tmp_path / 'one.h5'}"]
    with pytest.raises(StoreError, match=r"data\.val: the initial weights or the teacher were trained on some"):
        train(taught(student, store, tmp_path / "runs", *known))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", r"distill\.teacher: .*nowhere: no such folder"),
        (
            "pretrained:nothing",
            r"distill\.teacher: pretrained:nothing: no such model; there are pretrained:jetclass-like",
        ),
    ],
)
def test_no_such_teacher(store, tmp_path, name, message):
    with pytest.raises(CheckpointError, match=message):
        train(taught(name, store, tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_teachers_that_do_not_fit(teacher):
    jets = toy_jets(5, 7)
    with pytest.raises(CheckpointError, match=r"distill\.teacher: .* has the classes \('gluon', 'quark'\), these jets"):
        load_teacher(str(teacher), JetDataset(toy_jets(50, 7, classes=3)))
    del jets.particles["pid"]
    with pytest.raises(CheckpointError, match=r"distill\.teacher: .*pid.*set distill=null"):
        load_teacher(str(teacher), JetDataset(jets))


def test_a_teacher_without_finite_probabilities(teacher):
    model = load(teacher)
    next(model.parameters()).data.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="its probabilities are not finite"):
        targets(model, JetDataset(toy_jets(5, 7)), 0.5, torch.device("cpu"))


def test_a_run_resumes_only_with_its_teacher(teacher, store, tmp_path, monkeypatch):
    changing = shutil.copytree(teacher, tmp_path / "changing")
    config = taught(changing, store, tmp_path, "data.batch_size=50")
    with stopped_at(monkeypatch, (Tagger, "training_step"), 8), pytest.raises(StopError):  # in the second epoch
        train_into(tmp_path / "run", config)
    state = weights(changing)
    torch.save(
        {key: value + 1e-3 if value.is_floating_point() else value for key, value in state.items()},
        changing / "model.pt",
    )
    with pytest.raises(RunError, match=r"the weights \(.*changing\) differ"):
        resume(tmp_path / "run")


def test_a_teacher_sees_at_most_what_its_student_sees(store, tmp_path):
    few = train(toy("iaformer", store, tmp_path, "train.epochs=1", "data.max_particles=3"))
    jets = toy_jets(29, 8)
    cut = targets(load(few), JetDataset(jets, max_particles=3), 1.0, torch.device("cpu"))
    assert torch.equal(targets(load(few), JetDataset(jets), 1.0, torch.device("cpu")), cut)


def test_streamed_jets_are_refused(teacher, store):
    with pytest.raises(ConfigError, match=r"'data\.in_memory' should be true with 'distill'"):
        taught(teacher, store, "runs", "data.in_memory=false")
