"""Weights of jets are written, read, sliced and concatenated with their jets."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_runs import toy_jets

from iagraph.data import (
    JetDataset,
    JetLoader,
    Jets,
    JetStore,
    StoredJets,
    StoreError,
    read_store,
    store_info,
    write_store,
)
from iagraph.data.convert import convert
from iagraph.jets import JetBatch

WEIGHTS = np.linspace(0, 3, 97).astype(np.float32)


@pytest.fixture
def jets():
    return replace(toy_jets(97, 1), weight=WEIGHTS)


def weight_of_jets(batches):
    """The weights, by the first pt of their jets."""
    return {float(jets.momenta.pt[jets.ptr[k]]): float(jets.weight[k]) for jets in batches for k in range(len(jets))}


def test_stores_keep_weights(jets, tmp_path):
    path = tmp_path / "jets.h5"
    write_store(path, jets, splits={"train": 60, "test": 37})
    assert store_info(path).weights
    np.testing.assert_array_equal(read_store(path).weight, WEIGHTS)
    np.testing.assert_array_equal(read_store(path, "test").weight, WEIGHTS[60:])
    np.testing.assert_array_equal(JetStore(path, "test").weight(), WEIGHTS[60:])
    assert JetStore(path, weights=False).read(0, 5).weight is None
    picked = JetStore(path, "test", classes={"quark": ["quark"]})
    np.testing.assert_array_equal(picked.weight(), WEIGHTS[60:][jets.label[60:] == 1])
    np.testing.assert_array_equal(picked.read(0, len(picked)).weight, picked.weight())
    other = tmp_path / "other.h5"
    write_store(other, replace(jets, weight=2 * WEIGHTS))
    write_store(tmp_path / "none.h5", replace(jets, weight=None))
    prints = {store_info(tmp_path / f"{name}.h5").fingerprint for name in ("jets", "other", "none")}
    assert len(prints) == 3
    assert not store_info(tmp_path / "none.h5").weights


def test_particle_column_may_be_named_weight(jets, tmp_path):
    both = replace(jets, particles=jets.particles | {"weight": jets.particles["pt"]})
    write_store(tmp_path / "jets.h5", both)
    found = read_store(tmp_path / "jets.h5")
    np.testing.assert_array_equal(found.weight, WEIGHTS)
    np.testing.assert_array_equal(found.particles["weight"], jets.particles["pt"])


def test_weights_stay_with_their_jets(jets, tmp_path):
    expected = weight_of_jets([JetDataset(jets)[:]])
    assert len(expected) > 90
    write_store(tmp_path / "jets.h5", jets.part(0, 50))
    write_store(tmp_path / "more.h5", jets.part(50, 97))
    stored = StoredJets([JetStore(tmp_path / name) for name in ("jets.h5", "more.h5")])
    np.testing.assert_array_equal(stored.weight, WEIGHTS)
    for source in (JetDataset(jets), stored):
        assert weight_of_jets(JetLoader(source, 13, shuffle=True, seed=3)) == expected
    np.testing.assert_array_equal(Jets.concatenate([jets.part(0, 7), jets.part(7, 97)]).weight, WEIGHTS)
    np.testing.assert_array_equal(jets.take([5, -1]).weight, WEIGHTS[[5, -1]])
    np.testing.assert_array_equal(JetDataset(jets, max_particles=3).weight, WEIGHTS)
    convert([tmp_path / "jets.h5", tmp_path / "more.h5"], tmp_path / "all.h5")
    np.testing.assert_array_equal(read_store(tmp_path / "all.h5").weight, WEIGHTS)


def test_graphs_have_weights(jets):
    batch = JetDataset(jets)[3:8]
    again = JetBatch.from_data(batch.to_data_list())
    torch.testing.assert_close(again.weight, torch.from_numpy(WEIGHTS[3:8]))
    torch.testing.assert_close(batch.part(1, 3).weight, torch.from_numpy(WEIGHTS[4:6]))
    assert JetBatch.concatenate([batch, batch]).double().weight.tolist() == [*WEIGHTS[3:8].tolist()] * 2
    assert JetBatch.from_data(JetDataset(replace(jets, weight=None))[:2].to_data_list()).weight is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (-0.5, "jet 4 has the weight -0.5, expected finite and not negative: else losses have no lower"),
        (np.nan, "jet 4 has the weight nan"),
    ],
)
def test_invalid_weights_are_refused_when_written(jets, tmp_path, change, message):
    weight = WEIGHTS.copy()
    weight[4] = change
    with pytest.raises(StoreError, match=message):
        write_store(tmp_path / "jets.h5", replace(jets, weight=weight))
    assert not list(tmp_path.iterdir())


def test_inconsistent_weights_are_refused(jets, tmp_path):
    without = replace(jets, weight=None)
    for one, message in (
        (WEIGHTS[1:], "found 96 weights, expected 97"),
        (WEIGHTS.astype(float), "weight of jets is float64"),
    ):
        with pytest.raises(StoreError, match=message):
            replace(jets, weight=one).validate("jets")
    with pytest.raises(StoreError, match="make them equal"):
        Jets.concatenate([jets, without])
    write_store(tmp_path / "with.h5", jets)
    write_store(tmp_path / "without.h5", without)
    with pytest.raises(StoreError, match=r"without\.h5: its jets have no weights"):
        JetStore(tmp_path / "without.h5", weights=True)
    with pytest.raises(StoreError, match=r"with\.h5 has weights, .*without\.h5 has none"):
        StoredJets([JetStore(tmp_path / "without.h5"), JetStore(tmp_path / "with.h5")])


def test_classes_may_be_a_list_but_not_a_string(jets, tmp_path):
    listed = replace(jets, classes=["gluon", "quark"])
    assert listed.classes == ("gluon", "quark")
    write_store(tmp_path / "jets.h5", listed)
    assert read_store(tmp_path / "jets.h5").classes == ("gluon", "quark")
    with pytest.raises(StoreError, match="classes should be names"):
        replace(jets, classes="gq")
