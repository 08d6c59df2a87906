import numpy as np
import pytest
import torch
from as_on_a_gpu import AsOnAGPU
from lightning import Trainer
from toy_runs import settings, toy_jets

from iagraph.data import JetDataset, write_store
from iagraph.models import IAFormer
from iagraph.testing import random_jets
from iagraph.train.evaluate import evaluate
from iagraph.train.module import Tagger
from iagraph.train.not_finite import FILES, first_not_finite, report
from iagraph.train.run import resume, train

SMALL = {"width": 6, "blocks": 2, "heads": 3, "particle_hidden": [7], "pair_hidden": [5], "pair_width": 11}


@pytest.fixture
def model():
    torch.manual_seed(1)
    return IAFormer(**SMALL)


def jets_with(pt):
    jets = random_jets([3, 5, 2, 7], 1)
    jets.momenta.pt[9] = pt  # of jet 2
    return jets


def test_jet_is_named_and_saved(model, tmp_path):
    jets = jets_with(float("nan"))
    logits = model(jets)
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1, 0]), reduction="none")
    text = report(model, jets, losses, tmp_path)
    assert text.startswith("its jet 2 of 4; first in the output of ")
    assert text.endswith(f"jets and weights saved in {tmp_path / FILES[0]} and {FILES[1]}")
    saved = np.load(tmp_path / FILES[0], allow_pickle=False)
    assert {"ptr", "loss", "label", "pid", "pt", "rapidity", "phi", "mass", "d0", "dz_error"} <= set(saved)
    assert np.isnan(saved["pt"]).nonzero()[0].tolist() == [9]
    assert np.isnan(saved["loss"]).tolist() == [False, False, True, False]
    weights = torch.load(tmp_path / FILES[1], weights_only=True)
    assert all(weights[name].equal(tensor) for name, tensor in model.state_dict().items())


def test_layer_is_named(model):
    jets = jets_with(30.0)
    assert first_not_finite(model, jets) is None
    with torch.no_grad():
        model.blocks[1].feed_forward[1].bias[2] = torch.inf
    assert first_not_finite(model, jets) == "blocks.1.feed_forward.1"
    assert not any(module._forward_hooks for module in model.modules())


def test_weights_that_are_not_finite_are_named(model):
    with torch.no_grad():
        model.head.bias[0] = torch.nan
    losses = torch.full((4,), torch.nan)
    assert report(model, jets_with(1.0), losses, None) == (
        "its jets 0, 1, 2, 3 of 4; weights that were already not finite: head.bias"
    )


def test_unwritable_folder_does_not_suppress_the_report(model, tmp_path):
    text = report(model, jets_with(float("nan")), torch.tensor([0, 0, torch.nan, 0]), tmp_path / "not" / "there")
    assert text.startswith("its jet 2 of 4")
    assert "jets and weights" not in text


def test_training_stops_and_saves_jets_and_weights(store, tmp_path):
    wild = settings(store, tmp_path, "train.learning_rate=1e30", "train.clip=null", "train.warmup=0")
    with pytest.raises(
        FloatingPointError, match=r"the loss is \S+ in batch \d+ of epoch \d+ \(its jets? .* saved in .*"
    ):
        train(wild)
    assert {path.name for path in (tmp_path / "qg-001").glob("not_finite*")} == set(FILES)


@pytest.mark.parametrize("epoch", [1, 2])
def test_weights_exploding_in_the_last_step_of_an_epoch(store, tmp_path, monkeypatch, capsys, epoch):
    def explode(self, outputs, jets, batch_index):
        if self.current_epoch + 1 == epoch and batch_index + 1 == self.trainer.num_training_batches:
            self.model.head.bias.data[0] = torch.nan

    monkeypatch.setattr(Tagger, "on_train_batch_end", explode)
    found = (
        rf"the loss is nan in batch 0 of the validation after epoch {epoch} \(.*already not finite: head.bias; .*\): "
    )
    kept = "no epoch was finished" if epoch == 1 else r"the best weights of the 1 epoch before are kept in .*best\.ckpt"
    with pytest.raises(FloatingPointError, match=f"{found}lower train.learning_rate, .*; {kept}"):
        train(settings(store, tmp_path))
    assert capsys.readouterr().out.count("val_auc") == epoch - 1
    with pytest.raises(FloatingPointError, match=found):
        resume(tmp_path / "qg-001")
    if epoch == 2:
        best = torch.load(tmp_path / "qg-001" / "checkpoints" / "best.ckpt", weights_only=True)
        assert best["epoch"] == 0
        assert all(tensor.isfinite().all() for tensor in best["state_dict"].values())


def test_logits_of_the_test_set_that_are_not_finite(store, tmp_path):
    run = train(settings(store, tmp_path, "train.epochs=1"))
    weights = torch.load(run / "model.pt", weights_only=True)
    weights["head.bias"][0] = torch.inf
    torch.save(weights, run / "model.pt")
    write_store(tmp_path / "other.h5", toy_jets(20, 2))
    with pytest.raises(
        FloatingPointError, match=r"logits of 20 of the 20 jets of batch 0 .* in the output of head: inspect"
    ):
        evaluate(run, str(tmp_path / "other.h5"))
    assert not list(run.glob("evaluation-*"))


def test_a_gpu_works_on_the_gradients_while_the_host_waits_for_the_loss(store, tmp_path):
    config = settings(store, tmp_path)
    tagger = Tagger(IAFormer("kinpid", **SMALL), config.train, 1, jets_per_epoch=30)
    tagger.log = lambda *_, **__: None
    tagger.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    jets = JetDataset(toy_jets(30, 3))[:].to("cpu")  # which keeps the multiplicities on the host
    with AsOnAGPU() as gpu:
        tagger.training_step(jets, 4).backward()
        assert not gpu.waits
        tagger.on_after_backward()
    ((wait, number),) = gpu.waits.items()
    assert (wait.partition(" ")[0], number) == ("_local_scalar_dense", 1)
    tagger.model.head.bias.data[0] = torch.nan
    tagger.training_step(jets, 5)
    with pytest.raises(FloatingPointError, match=r"the loss is nan in batch 5 of epoch 1 \(its jets 0, .* head\.bias"):
        tagger.on_after_backward()
