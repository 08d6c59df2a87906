import json

import pytest
import torch

from iagraph.interpret.cka import linear_cka
from iagraph.interpret.interventions import trace
from iagraph.models import ParticleTransformer
from iagraph.studies.runs import Plan, open_run
from iagraph.studies.similarity.measure import BetaHistory, beta_history, kept_epoch
from iagraph.studies.similarity.study import study
from iagraph.train.folder import RunError, read_history
from iagraph.train.module import betas


def test_beta_is_read_from_the_log_of_the_run(toy_run):
    history = beta_history(toy_run)
    assert history.epochs == [1, 2]
    assert list(history.layers) == ["blocks.0.conv", "blocks.1.conv"]
    losses = [row["val_loss"] for row in read_history(toy_run)]
    best = 1 + losses.index(min(losses))
    model = open_run(toy_run, 50).model
    assert kept_epoch(model, history) == best
    for name, (trained,) in betas(model).items():
        assert history.layers[name][best - 1] == pytest.approx(trained, abs=1e-6)


def test_no_beta(tmp_path, toy_run):
    assert beta_history(tmp_path) == BetaHistory([], {})
    part = ParticleTransformer(width=6, blocks=1, heads=3, class_blocks=1, particle_hidden=[7], pair_hidden=[5])
    assert kept_epoch(part, beta_history(toy_run)) is None
    assert kept_epoch(open_run(toy_run, 50).model, BetaHistory([], {})) is None


def test_two_runs_side_by_side(toy_run, part_run, tmp_path):
    folder = study(Plan([toy_run, part_run], tmp_path / "similarity", 90, "typed"))
    one, other = f"{toy_run.parent.name}/toy", f"{part_run.parent.name}/toy"
    files = {path.name for path in folder.glob("*.png")}
    short = [name.replace("/", "-") for name in (one, other)]
    singles = ("last_layer", "one_jet", "layers", "cka_particles", "cka_jets")
    expected = {f"{what}_{name}.png" for what in singles for name in short} | {"beta.png"}
    assert files == expected | {f"cka_{what}_{short[0]}_{short[1]}.png" for what in ("particles", "jets")}
    report = json.loads((folder / "report.json").read_text())
    assert set(report["runs"]) == set(report["configs"]) == {one, other}
    found = report["numbers"]["similarity"]
    assert found["layers"] == [f"{one}, 0", f"{one}, 1", f"{one}, 2", f"{other}, 0", f"{other}, 1"]
    with torch.inference_mode():
        runs = [open_run(path, 90) for path in (toy_run, part_run)]
        vectors = [[trace(run.model, batch).x for batch in run.batches] for run in runs]
    first, second = (torch.cat([batch[1] for batch in mine]) for mine in vectors)
    assert found["particles, plain"]["value"][1][4] == pytest.approx(linear_cka(first, second), abs=1e-6)
    batches = [batch for batch in runs[0].batches if len(batch)]
    means = [
        torch.cat([jets.graph().mean(batch[1])[jets.ptr.diff() > 0] for batch, jets in zip(mine, batches, strict=True)])
        for mine in vectors
    ]
    assert found["jets, plain"]["value"][1][4] == pytest.approx(linear_cka(*means), abs=1e-6)
    assert set(report["numbers"]["beta"]) == {one}
    assert any("no beta" in note and other in note for note in report["notes"])
    rows = report["tables"]["attention"]
    assert [(row["run"], row["layer"]) for row in rows] == [(one, 1), (one, 2), (other, 1)]
    for row in rows:
        total = row["positive part"]["value"] - row["negative part"]["value"]
        assert total == pytest.approx(1 - (row["beta"] or 0), abs=1e-5)
    assert rows[2]["negative share"]["value"] == 0


def test_runs_without_beta_have_no_beta_figure(part_run, tmp_path):
    folder = study(Plan([part_run], tmp_path / "similarity", 40))
    assert not (folder / "beta.png").exists()
    assert not (folder / "between_runs.csv").exists()
    assert (folder / "cka_jets_toy.png").exists()


def test_incompatible_runs_are_refused(toy_run, elsewhere_run, tmp_path):
    with pytest.raises(RunError, match=r"others: its test jets .* are not those of .*toy.*; give runs with the same"):
        study(Plan([toy_run, elsewhere_run], tmp_path / "similarity", 40))
    with pytest.raises(RunError, match=r"toy: this run is given twice"):
        study(Plan([toy_run, toy_run], tmp_path / "similarity", 40))
    assert not list(tmp_path.iterdir())
