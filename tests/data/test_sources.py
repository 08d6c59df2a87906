import pickle
from itertools import pairwise

import h5py
import numpy as np
import pytest
import torch
from data.conftest import contents, expected, numbered_jets

from iagraph.data import JetDataset, JetStore, StoredJets, StoreError, keep_hardest, write_store
from iagraph.data.sources import Pool, evenly_spaced

COUNTS = np.array([3, 0, 7, 1, 5, 2, 11, 4, 4, 1, 6, 0, 2])
EXPECTED = expected(COUNTS)


@pytest.fixture(params=["memory", "one store", "three stores", "parts"])
def source(request, tmp_path, small_blocks):
    jets = numbered_jets(COUNTS, impact=True)
    if request.param == "memory":
        return JetDataset(jets)
    if request.param == "parts":
        write_store(tmp_path / "jets.h5", jets, splits={"train": 6, "val": 0, "test": 7})
        return StoredJets([JetStore(tmp_path / "jets.h5", name) for name in ("train", "val", "test")])
    cuts = [0, 13] if request.param == "one store" else [0, 1, 8, 13]
    for number, (begin, end) in enumerate(pairwise(cuts)):
        write_store(tmp_path / f"{number}.h5", jets.part(begin, end))
    return StoredJets([JetStore(tmp_path / f"{number}.h5") for number in range(len(cuts) - 1)])


def test_batches_hold_the_requested_jets(source):
    batch = source[[4, 1, 2, 4, 5, 6]]
    assert contents(batch) == [EXPECTED[k] for k in (4, 1, 2, 4, 5, 6)]
    assert torch.equal(batch.pid, -batch.momenta.pt.long())
    torch.testing.assert_close(batch.momenta.mass, batch.momenta.pt / 7)
    for k, column in enumerate(batch.impact):
        torch.testing.assert_close(column, batch.momenta.pt + k)
    assert len(source) == 13


def test_jets_are_indexed_like_tensors(source):
    mask = torch.arange(13) % 3 == 0
    wanted = [(2, [2]), (-1, [12]), (slice(1, 12, 4), [1, 5, 9]), (slice(3, 9), range(3, 9)), (mask, [0, 3, 6, 9, 12])]
    for indices, numbers in wanted:
        assert contents(source[indices]) == [EXPECTED[k] for k in numbers]
    assert contents(source[[]]) == []
    with pytest.raises(IndexError):
        source[13]


def test_labels_multiplicities_and_blocks_cover_all_jets(source):
    assert source.label.tolist() == [k % 2 for k in range(13)]
    assert source.multiplicity.tolist() == COUNTS.tolist()
    assert source.sizes.sum() == 13
    assert source.classes == ("gluon", "quark")


def test_a_pool_is_its_blocks_in_the_order_of_its_seed(source):
    blocks = np.array([len(source.sizes) - 1, 0])
    whole = contents(source.gather(Pool(blocks, None, 0, 99)))
    first = np.concatenate([[0], np.cumsum(source.sizes)])
    assert whole == [EXPECTED[k] for block in blocks for k in range(first[block], first[block + 1])]
    shuffled = contents(source.gather(Pool(blocks, (1, 2), 0, 99)))
    assert sorted(shuffled) == sorted(whole)
    assert contents(source.gather(Pool(blocks, (1, 2), 1, 2))) == shuffled[1:2]


def test_multiplicity_counts_all_particles(tmp_path):
    write_store(tmp_path / "jets.h5", numbered_jets(COUNTS))
    for jets in (
        JetDataset(numbered_jets(COUNTS), max_particles=3),
        StoredJets([JetStore(tmp_path / "jets.h5")], max_particles=3),
    ):
        assert jets.multiplicity.tolist() == COUNTS.tolist()
        assert jets[:].ptr.diff().tolist() == np.minimum(COUNTS, 3).tolist()


def test_only_requested_columns_are_read(tmp_path):
    write_store(tmp_path / "jets.h5", numbered_jets(COUNTS, impact=True))
    jets = StoredJets([JetStore(tmp_path / "jets.h5", columns=("pt", "rapidity", "phi", "mass"))])
    batch = jets[[0, 2]]
    assert (batch.pid, batch.impact) == (None, None)
    with pytest.raises(StoreError, match=r"jets\.h5: no column charge; available: d0,"):
        JetStore(tmp_path / "jets.h5", columns=("pt", "rapidity", "phi", "mass", "charge"))


def test_reading_stays_within_the_split(tmp_path):
    write_store(tmp_path / "jets.h5", numbered_jets(COUNTS), splits={"train": 6, "test": 7})
    train = JetStore(tmp_path / "jets.h5", "train")
    assert len(train.read(2, 6)) == 4
    for begin, end in ((0, 7), (-1, 3), (3, 2)):
        with pytest.raises(StoreError, match=rf"jets\.h5: no jets {begin}:{end} among the 6"):
            train.read(begin, end)
    with pytest.raises(StoreError, match=r"jets\.h5: columns pt lack rapidity, phi, mass"):
        JetStore(tmp_path / "jets.h5", columns=("pt",))


def test_stores_must_be_compatible(tmp_path):
    write_store(tmp_path / "a.h5", numbered_jets([2, 3]))
    write_store(tmp_path / "b.h5", numbered_jets([2, 3], pid=False))
    with pytest.raises(StoreError, match=r"b\.h5: classes .* differ from those of .*a\.h5"):
        StoredJets([JetStore(tmp_path / "a.h5"), JetStore(tmp_path / "b.h5")])
    with pytest.raises(StoreError, match="at least one"):
        StoredJets([])


def test_damage_is_detected_on_reading(tmp_path):
    path = tmp_path / "jets.h5"
    write_store(path, numbered_jets(COUNTS))
    jets = StoredJets([JetStore(path)])
    with h5py.File(path, "r+") as file:
        file["particles/phi"][12] = np.nan
    assert contents(jets[:3]) == EXPECTED[:3]
    with pytest.raises(StoreError, match=r"jets\.h5: jet 4, particle 1: phi = nan"):
        jets[2:]


def test_stored_sources_can_be_pickled(tmp_path):
    write_store(tmp_path / "jets.h5", numbered_jets(COUNTS))
    jets = StoredJets([JetStore(tmp_path / "jets.h5")])
    assert len(jets.label) == len(jets.multiplicity) == len(jets[:])  # neither these nor an open file are pickled
    assert len(pickle.dumps(jets)) < 2000
    assert contents(pickle.loads(pickle.dumps(jets))[:]) == EXPECTED


def test_hardest_particles_are_kept():
    jets = numbered_jets(COUNTS[:7])
    kept = keep_hardest(jets, 3)
    assert kept.counts.tolist() == np.minimum(COUNTS[:7], 3).tolist()
    assert kept.particles["pt"][:8].tolist() == [2.5, 1.5, 0.5, 206.5, 205.5, 204.5, 300.5, 404.5]
    assert np.array_equal(kept.particles["pid"], -kept.particles["pt"].astype(np.int32))
    assert np.array_equal(kept.label, jets.label)
    with pytest.raises(ValueError, match="at least 1, found 0"):
        keep_hardest(jets, 0)


def test_evenly_spaced_jets():
    assert evenly_spaced(10, 4) == [0, 3, 6, 9]
    assert evenly_spaced(3, 5) == [0, 1, 2]
    assert evenly_spaced(0, 5) == []


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_jets_in_memory_are_validated(value):
    jets = numbered_jets([2, 3])
    jets.particles["pt"][3] = value
    with pytest.raises(StoreError, match=r"^jets: jet 1, particle 1: pt = .*, expected finite and above 0"):
        JetDataset(jets)
