import csv
import json

import numpy as np
import pytest
from toy_runs import settings, toy_jets

from iagraph.data import StoreError, write_store
from iagraph.train.evaluate import evaluate
from iagraph.train.folder import RunError, read_history
from iagraph.train.module import Tagger
from iagraph.train.run import train
from iagraph.train.schedules import warmup_cosine


class Counter(Tagger):
    """Record the number of jets of each epoch and its largest number of pairs."""

    epochs: list

    def on_train_epoch_start(self):
        self.epochs.append([])

    def training_step(self, jets, batch_index):
        self.epochs[-1].append((len(jets), int((jets.ptr.diff() * (jets.ptr.diff() + 1) // 2).sum())))
        return super().training_step(jets, batch_index)


@pytest.fixture(scope="module")
def streamed(store, tmp_path_factory):
    """A run of three epochs on jets that stay in their file, with a budget that binds and a worker process."""
    Counter.epochs = []
    changes = ("data.in_memory=false", "data.max_pairs=2000", "data.workers=1", "train.epochs=3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iagraph.train.run.Tagger", Counter)
        patch.setattr("iagraph.data.sources.BLOCK", 16)
        patch.setattr("iagraph.data.loader.POOL", 100)
        return train(settings(store, tmp_path_factory.mktemp("streamed"), *changes)), Counter.epochs


def test_epochs_have_all_jets_within_the_budget(streamed):
    folder, epochs = streamed
    jets = [sum(number for number, _ in epoch) for epoch in epochs]
    assert len(set(jets)) == 1
    assert len(jets) == 3
    assert max(pairs for epoch in epochs for _, pairs in epoch) <= 2000
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [sorted(row) for row in read_history(folder)] == [["epoch", "train_loss", "val_auc", "val_loss"]] * 3
    with np.load(folder / "predictions.npz") as file:
        assert len(file["label"]) == json.loads((folder / "metrics.json").read_text())["jets"]
    again = json.loads((evaluate(folder) / "metrics.json").read_text())
    assert again["tagger"] == json.loads((folder / "metrics.json").read_text())["tagger"]


def test_the_learning_rate_follows_the_jets(streamed):
    folder, epochs = streamed
    with (folder / "log" / "metrics.csv").open() as file:
        rates = [float(row["lr-AdamW/pg1"]) for row in csv.DictReader(file) if row.get("lr-AdamW/pg1")]
    seen = np.cumsum([0] + [number for epoch in epochs for number, _ in epoch])
    expected = [3e-3 * warmup_cosine(progress, 0.1, 1e-6 / 3e-3) for progress in seen / seen[-1]]
    assert set(np.round(rates, 10)) <= set(np.round(expected, 10))
    assert len(set(rates)) > 5
    assert min(rates) < 1e-4


def test_splits_with_training_jets_are_refused(tmp_path):
    jets = {name: toy_jets(200, seed) for seed, name in enumerate(("train", "val", "test"))}
    for name, part in jets.items():
        write_store(tmp_path / f"{name}.h5", part)
    files = [f"data.{name}={tmp_path / name}.h5" for name in jets]
    folder = train(settings("replaced", tmp_path, *files, "data.in_memory=false", "train.epochs=1"))
    evaluate(folder)
    write_store(tmp_path / "renamed.h5", jets["train"], splits={"train": 150, "test": 50})
    for name in ("train", "renamed"):
        with pytest.raises(RunError, match=rf"{name}\.h5: the model was trained on jets of this file"):
            evaluate(folder, str(tmp_path / f"{name}.h5"))
    files[2] = f"data.test={tmp_path / 'renamed.h5'}"
    with pytest.raises(StoreError, match=r"renamed\.h5 \(test\): shares jets with .*train\.h5 \(train\)"):
        train(settings("replaced", tmp_path, *files, "data.in_memory=false"))
