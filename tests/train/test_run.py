import json

import h5py
import numpy as np
import pytest
import torch
from saved_figures import figures
from toy_runs import FILES, settings, toy_jets, weights

from iagraph.data import Jets, StoreError, write_store
from iagraph.train.config import load_config
from iagraph.train.evaluate import evaluate
from iagraph.train.folder import RunError, build_model, new_run_folder
from iagraph.train.run import train

FIGURES = {f"{name}.{suffix}" for name in ("loss", "roc", "scores") for suffix in ("png", "pdf")}

# A machine that has a GPU would find the device.
no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    config = settings(store, tmp_path_factory.mktemp("runs"), "train.epochs=3", "train.learning_rate=1e-2")
    with figures("drawn"):
        return train(config)


def test_folder_is_complete(finished):
    assert finished.name == "qg-001"
    assert {path.name for path in finished.iterdir()} == FILES | {"figures", "log", "checkpoints"}
    assert {path.name for path in (finished / "figures").iterdir()} == FIGURES
    assert {path.name for path in (finished / "checkpoints").iterdir()} == {"best.ckpt", "end.ckpt", ".lock"}
    assert (finished / "log" / "metrics.csv").is_file()
    assert list((finished / "log").glob("events.out.tfevents.*"))


def test_metrics_follow_from_the_predictions(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    predictions = np.load(finished / "predictions.npz", allow_pickle=False)
    assert predictions["logits"].shape == (120, 2)
    assert metrics["jets"] == 120
    right = np.mean(predictions["logits"].argmax(1) == predictions["label"])
    assert metrics["tagger"]["accuracy"]["value"] == pytest.approx(right)
    score = predictions["logits"][:, 1] - predictions["logits"][:, 0]
    difference = score[predictions["label"] == 1][:, None] - score[predictions["label"] == 0]
    auc = np.mean((difference > 0) + 0.5 * (difference == 0))
    assert metrics["tagger"]["auc"]["value"] == pytest.approx(auc)
    difference = -np.subtract.outer(*(predictions["multiplicity"][predictions["label"] == k] for k in (1, 0)))
    alone = np.mean((difference > 0) + 0.5 * (difference == 0))
    assert metrics["multiplicity"]["auc"]["value"] == pytest.approx(alone)
    assert metrics["auc_gain_over_multiplicity"]["value"] == pytest.approx(auc - alone)
    assert auc > 0.75  # it has learned: multiplicity reaches 0.8
    cost = metrics["cost"]
    assert cost["parameters"] == sum(t.numel() for n, t in weights(finished).items() if "scale" not in n)
    assert cost["flops_per_jet"] > 1e4
    assert cost["jets_per_second"] > 1


def test_run_describes_itself(finished, store):
    config = load_config(finished / "config.yaml")
    assert config.train.learning_rate == 1e-2
    description = json.loads((finished / "model.json").read_text())
    assert description["classes"] == ["gluon", "quark"]
    assert [list(description["data"][role]) for role in ("train", "val", "test")] == [[str(store)]] * 3
    assert build_model(config, description["classes"]).load_state_dict(weights(finished))
    assert "AUC above multiplicity" in (finished / "report.md").read_text()


class TestEvaluate:
    def test_evaluating_again_gives_the_same(self, finished):
        folder = evaluate(finished)
        assert folder.parent == finished
        assert folder.name.startswith("evaluation-toy-")
        before, after = (json.loads((f / "metrics.json").read_text()) for f in (finished, folder))
        for key in ("tagger", "multiplicity", "auc_gain_over_multiplicity", "jets"):
            assert after[key] == before[key]
        logits = [np.load(f / "predictions.npz")["logits"] for f in (finished, folder)]
        np.testing.assert_allclose(logits[0], logits[1], rtol=0, atol=1e-6)

    def test_on_other_jets(self, finished, tmp_path):
        write_store(tmp_path / "other.h5", toy_jets(70, 2))
        folder = evaluate(finished, str(tmp_path / "other.h5"))
        assert folder.name.startswith("evaluation-other-")
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["jets"] == 70
        assert list(metrics["data"]) == [str(tmp_path / "other.h5")]

    def test_on_all_files_of_a_pattern(self, finished, tmp_path):
        for number in (2, 10):
            write_store(tmp_path / f"part_{number}.h5", toy_jets(30 + number, number))
        folder = evaluate(finished, str(tmp_path / "part_*.h5"))
        assert folder.name.startswith("evaluation-part_2-and-1-more-")
        assert json.loads((folder / "metrics.json").read_text())["jets"] == 72

    def test_other_classes_are_refused(self, finished, tmp_path):
        jets = toy_jets(20, 2)
        write_store(tmp_path / "top.h5", Jets(jets.particles, jets.offsets, jets.label, ("QCD", "top")))
        with pytest.raises(StoreError, match=r"top\.h5: classes \('QCD', 'top'\) differ"):
            evaluate(finished, str(tmp_path / "top.h5"))

    def test_training_jets_are_refused(self, store, tmp_path):
        for name, seed in (("train", 1), ("val", 2), ("test", 3)):
            write_store(tmp_path / f"{name}.h5", toy_jets(40, seed))
        mixed = Jets.concatenate([toy_jets(40, 4), toy_jets(40, 1).take(range(8))])
        write_store(tmp_path / "mixed.h5", mixed, splits={"train": 0, "val": 0, "test": 48})
        files = [f"data.{role}={tmp_path / role}.h5" for role in ("train", "val", "test")]
        run = train(settings(store, tmp_path, *files, "train.epochs=1"))
        evaluate(run, str(tmp_path / "val.h5"))
        for name, share in (("train", "100"), ("mixed", "17")):
            with pytest.raises(RunError, match=rf"{name}\.h5: the model was trained on {share}% of these jets"):
                evaluate(run, str(tmp_path / f"{name}.h5"))
        # The test file itself may change, too.
        (tmp_path / "test.h5").write_bytes((tmp_path / "mixed.h5").read_bytes())
        with pytest.raises(RunError, match="trained on 17%"):
            evaluate(run)

    def test_damaged_weights(self, finished, tmp_path):
        for name in ("config.yaml", "model.json", "model.pt", "trained_on.npy"):
            (tmp_path / name).write_bytes((finished / name).read_bytes())
        (tmp_path / "model.pt").write_bytes((finished / "model.pt").read_bytes()[:3000])
        with pytest.raises(RunError, match=r"model\.pt or model\.json is damaged or does not match"):
            evaluate(tmp_path)

    def test_damaged_digests(self, finished, tmp_path):
        for name in ("config.yaml", "model.json", "model.pt"):
            (tmp_path / name).write_bytes((finished / name).read_bytes())
        (tmp_path / "trained_on.npy").write_bytes(b"")
        with pytest.raises(RunError, match=r"trained_on\.npy: damaged"):
            evaluate(tmp_path)

    @no_cuda
    def test_missing_device(self, finished):
        with pytest.raises(RunError, match=r"device 'cuda'.*use another one"):
            evaluate(finished, device="cuda")

    def test_unfinished_run(self, tmp_path):
        with pytest.raises(
            RunError, match=r"lacks config\.yaml, .*, trained_on\.npy; give the folder of a finished run"
        ):
            evaluate(tmp_path)


class TestBadInput:
    def test_output_that_cannot_be_created(self, store, tmp_path):
        (tmp_path / "file").write_text("not a folder")
        with pytest.raises(RunError, match=r"file: cannot make this folder"):
            train(settings(store, tmp_path / "file"))

    @no_cuda
    def test_missing_device_leaves_no_folder(self, store, tmp_path):
        with pytest.raises(RunError, match="device 'cuda'"):
            train(settings(store, tmp_path / "runs", "train.device=cuda"))
        assert not (tmp_path / "runs").exists()

    def test_broken_link_as_output(self, store, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "unmounted")
        with pytest.raises(RunError, match="link: cannot make this folder"):
            train(settings(store, tmp_path / "link"))

    def test_missing_store_leaves_no_folder(self, tmp_path):
        with pytest.raises(StoreError, match=r"nowhere\.h5: no such file"):
            train(settings(tmp_path / "nowhere.h5", tmp_path / "runs"))
        assert not (tmp_path / "runs").exists()

    def test_truncated_store(self, store, tmp_path):
        (tmp_path / "cut.h5").write_bytes(store.read_bytes()[:-1000])
        with pytest.raises(StoreError, match=r"cut\.h5: incomplete or damaged"):
            train(settings(tmp_path / "cut.h5", tmp_path / "runs"))

    def test_nan_in_a_store_names_the_jet(self, store, tmp_path):
        path = tmp_path / "nan.h5"
        path.write_bytes(store.read_bytes())
        with h5py.File(path, "r+") as file:
            particle = int(file["jets/offsets"][7]) + 2
            file["particles/phi"][particle] = np.nan
        with pytest.raises(StoreError, match=r"nan\.h5: jet 7, particle 2: phi = nan, expected finite"):
            train(settings(path, tmp_path / "runs"))

    def test_store_that_lacks_a_key(self, store, tmp_path):
        path = tmp_path / "lacks.h5"
        path.write_bytes(store.read_bytes())
        with h5py.File(path, "r+") as file:
            del file["particles/mass"]
        with pytest.raises(StoreError, match=r"lacks\.h5: no column mass"):
            train(settings(path, tmp_path / "runs"))


def test_empty_and_single_particle_jets_are_trained_on(tmp_path):
    jets = toy_jets(60, 3)
    counts = np.where(np.arange(60) % 5 == 0, np.arange(60) % 2, jets.counts)  # a fifth have none or one
    kept = np.concatenate([np.arange(n) + begin for n, begin in zip(counts, jets.offsets[:-1], strict=True)])
    offsets = np.concatenate([[0], counts.cumsum()])
    path = tmp_path / "sparse.h5"
    columns = {name: column[kept] for name, column in jets.particles.items()}
    write_store(path, Jets(columns, offsets, jets.label, jets.classes), splits={"train": 30, "val": 15, "test": 15})
    run = train(settings(path, tmp_path, "train.epochs=1"))
    assert np.isfinite(np.load(run / "predictions.npz")["logits"]).all()


def test_runs_are_numbered(tmp_path):
    assert [new_run_folder(tmp_path, "a").name for _ in range(3)] == ["a-001", "a-002", "a-003"]
