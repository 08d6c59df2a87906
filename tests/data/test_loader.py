import numpy as np
import pytest
import torch

from iagraph.data import JetDataset, Jets, jet_loader, keep_hardest

COUNTS = np.array([3, 0, 7, 1, 5, 2, 11])


def jets(pid=True):
    random = np.random.default_rng(1)
    total = COUNTS.sum()
    columns = {name: random.normal(size=total).astype(np.float32) for name in ("rapidity", "phi")}
    # Values tell where they come from: pt 203 is particle 3 of jet 2.
    number = np.concatenate([100 * jet + np.arange(count) for jet, count in enumerate(COUNTS)])
    columns |= {"pt": number.astype(np.float32), "mass": number.astype(np.float32) / 7}
    if pid:
        columns["pid"] = -number.astype(np.int32)
    offsets = np.concatenate([[0], COUNTS.cumsum()]).astype(np.int64)
    return Jets(columns, offsets, np.arange(len(COUNTS)) % 2, ("gluon", "quark"))


def contents(batch):
    """Each jet of a batch as its label and the pt of its particles."""
    parts = batch.momenta.pt.split(batch.ptr.diff().tolist())
    return [(label, tuple(part.tolist())) for label, part in zip(batch.y.tolist(), parts, strict=True)]


EXPECTED = [(k % 2, tuple(float(100 * k + i) for i in range(count))) for k, count in enumerate(COUNTS)]


def test_a_batch_is_the_jets_asked_for():
    dataset = JetDataset(jets())
    batch = dataset[[4, 1, 2, 4]]
    assert contents(batch) == [EXPECTED[k] for k in (4, 1, 2, 4)]
    assert torch.equal(batch.pid, -batch.momenta.pt.long())
    torch.testing.assert_close(batch.momenta.mass, batch.momenta.pt / 7)
    assert len(dataset) == 7


def test_jets_are_indexed_as_tensors_are():
    dataset = JetDataset(jets())
    mask = torch.tensor([True, False, True, True, False, False, True])
    wanted = {"number": (2, [2]), "last": (-1, [6]), "slice": (slice(1, 6, 2), [1, 3, 5]), "mask": (mask, [0, 2, 3, 6])}
    for indices, expected in wanted.values():
        assert contents(dataset[indices]) == [EXPECTED[k] for k in expected]
    assert len(dataset[[]]) == 0
    with pytest.raises(IndexError):
        dataset[7]


def test_multiplicity_is_that_of_the_whole_jet():
    dataset = JetDataset(jets(), max_particles=3)
    assert dataset.multiplicity.tolist() == COUNTS.tolist()
    assert dataset[:].ptr.diff().tolist() == [3, 0, 3, 1, 3, 2, 3]


def test_species_may_be_unknown():
    assert JetDataset(jets(pid=False))[[0, 2]].pid is None


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (3, 0), (3, 2), (7, 0), (50, 0)])
def test_every_jet_once_and_in_order(batch_size, workers):
    batches = list(jet_loader(JetDataset(jets()), batch_size, workers=workers))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert [jet for batch in batches for jet in contents(batch)] == EXPECTED


def test_shuffling_is_new_each_epoch_and_fixed_by_the_seed():
    def epochs(seed):
        loader = jet_loader(JetDataset(jets()), 3, shuffle=True, seed=seed)
        return [[jet for batch in loader for jet in contents(batch)] for _ in range(2)]

    first, second = epochs(5)
    assert sorted(first) == sorted(second) == sorted(EXPECTED)
    assert first != second
    assert epochs(5) == [first, second]
    assert epochs(6) != [first, second]


def test_hardest_particles_are_kept():
    kept = keep_hardest(jets(), 3)
    assert kept.counts.tolist() == np.minimum(COUNTS, 3).tolist()
    assert kept.particles["pt"][:8].tolist() == [2, 1, 0, 206, 205, 204, 300, 404]
    assert np.array_equal(kept.particles["pid"], -kept.particles["pt"].astype(np.int32))
    assert np.array_equal(kept.label, jets().label)
