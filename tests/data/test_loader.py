import math

import h5py
import numpy as np
import pytest
import torch
from data.conftest import contents, expected, numbered_jets

from iagraph.data import JetDataset, JetLoader, JetStore, StoredJets, StoreError, write_store
from iagraph.data.loader import PoolSampler

COUNTS = np.random.default_rng(3).integers(0, 12, 101)
EXPECTED = expected(COUNTS)


@pytest.fixture(params=["memory", "stores"])
def source(request, tmp_path, small_blocks):
    jets = numbered_jets(COUNTS)
    if request.param == "memory":
        return JetDataset(jets)
    write_store(tmp_path / "a.h5", jets.part(0, 43))
    write_store(tmp_path / "b.h5", jets.part(43, 101))
    return StoredJets([JetStore(tmp_path / "a.h5"), JetStore(tmp_path / "b.h5")])


def read(loader):
    return [jet for batch in loader for jet in contents(batch)]


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (7, 0), (7, 1), (17, 0), (50, 0), (101, 0), (500, 0)])
def test_each_jet_comes_once_and_in_order(source, batch_size, workers):
    loader = JetLoader(source, batch_size, workers=workers)
    batches = list(loader)
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert len(loader) == len(batches)
    assert [jet for batch in batches for jet in contents(batch)] == EXPECTED


def test_shuffling_depends_on_epoch_and_seed(source):
    def epochs(seed, workers=0):
        loader = JetLoader(source, 7, shuffle=True, seed=seed, workers=workers)
        return [read(loader) for _ in range(3)]

    three = epochs(5)
    assert all(sorted(epoch) == sorted(EXPECTED) for epoch in three)
    assert three[0] != three[1] != three[2] != three[0]
    assert epochs(5) == three
    assert epochs(6) != three
    assert epochs(5, workers=2) == three


def test_an_epoch_can_be_chosen(source):
    loader = JetLoader(source, 7, shuffle=True, workers=2)
    epochs = [read(loader) for _ in range(3)]
    loader.set_epoch(1)
    assert [read(loader), read(loader)] == epochs[1:]


def test_abandoned_epoch_does_not_affect_the_next(source):
    loader, other = (JetLoader(source, 7, shuffle=True, workers=2) for _ in range(2))
    next(iter(loader))
    read(other)
    assert read(loader) == read(other)


def test_pools_mix_jets_that_are_sorted_by_class():
    # As many blocks per pool, and classes in as many runs, as of JetClass: ten stores of ten classes.
    label = np.repeat(np.tile(np.arange(10), 10), 400)
    pools = list(PoolSampler(np.full(len(label), 256), shuffle=True, seed=1, shard=(0, 1)))
    assert sum(len(pool.blocks) for pool in pools) == len(label)
    shares = np.array([np.bincount(label[pool.blocks], minlength=10) / len(pool.blocks) for pool in pools])
    assert np.abs(shares - 0.1).max() < 0.06
    assert shares.std() < 0.02


def test_global_random_state_is_unchanged(source):
    torch.manual_seed(0)
    expected = torch.rand(3)
    for workers in (0, 1):
        torch.manual_seed(0)
        read(JetLoader(source, 7, shuffle=True, workers=workers))
        assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_in_a_worker_is_a_one_line_error(tmp_path, workers):
    write_store(tmp_path / "jets.h5", numbered_jets(COUNTS))
    jets = StoredJets([JetStore(tmp_path / "jets.h5")])
    with h5py.File(tmp_path / "jets.h5", "r+") as file:
        file["particles/phi"][12] = np.nan
    with pytest.raises(StoreError, match=r"^[^\n]*jets\.h5: jet \d+, particle \d+: phi = nan[^\n]*$"):
        list(JetLoader(jets, 7, workers=workers))


def test_positions_in_an_epoch_are_uniform(source):
    loader = JetLoader(source, 101, shuffle=True)
    number = {jet: place for place, jet in enumerate(EXPECTED) if jet[1]}
    # The mean place of a jet over many epochs is the middle, with an error of 101 / sqrt(12 epochs).
    places = np.zeros(101)
    for _ in range(60):
        for place, jet in enumerate(read(loader)):
            if jet in number:
                places[number[jet]] += place / 60
    known = places[sorted(number.values())]
    assert np.abs(known - 50).max() < 5 * 101 / np.sqrt(12 * 60)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch", [1, 7, 11])  # of 101 jets, 8 processes have 12 or 13, 10 have 10 or 11
@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (3, 0), (3, 1), (8, 0), (10, 0), (103, 0)])
def test_shards_partition_the_epoch_of_one_process(source, shuffle, workers, processes, batch):
    def shard(rank):
        loader = JetLoader(source, batch, shuffle=shuffle, seed=2, workers=workers, shard=(rank, processes))
        batches = [contents(jets) for jets in loader]
        jets = [jet for jets in batches for jet in jets]
        assert len(batches) == len(loader) or not jets
        assert len(loader) == math.ceil(math.ceil(101 / processes) / batch)
        assert all(batches[:-1])
        return jets

    shards = [shard(rank) for rank in range(processes)]
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert [jet for jets in shards for jet in jets] == read(JetLoader(source, batch, shuffle=shuffle, seed=2))


def by_hand(counts, batch_size, max_pairs):
    """Batches filled one jet after another."""
    batches, pairs = [[]], 0
    for count in counts:
        mine = count * (count + 1) // 2
        if batches[-1] and (len(batches[-1]) == batch_size or pairs + mine > max_pairs):
            batches.append([])
            pairs = 0
        batches[-1].append(count)
        pairs += mine
    return batches


@pytest.mark.parametrize("batch_size", [1, 4, 30, 500])
@pytest.mark.parametrize("max_pairs", [1, 20, 66, 300, 10**9])
def test_no_batch_has_more_pairs_than_the_budget(source, batch_size, max_pairs):
    loader = JetLoader(source, batch_size, shuffle=True, max_pairs=max_pairs)
    batches = list(loader)
    sizes = [batch.ptr.diff().tolist() for batch in batches]
    assert sizes == by_hand([count for batch in sizes for count in batch], batch_size, max_pairs)
    assert sorted(jet for batch in batches for jet in contents(batch)) == sorted(EXPECTED)
    with pytest.raises(TypeError, match="differs from epoch to epoch"):
        len(loader)


def test_batches_hold_all_columns(small_blocks):
    jets = numbered_jets(COUNTS, impact=True)
    for batch in JetLoader(JetDataset(jets), 7, shuffle=True):
        assert torch.equal(batch.pid, -batch.momenta.pt.long())
        assert torch.equal(batch.ptr[:1], torch.zeros(1, dtype=torch.long))
        for k, column in enumerate(batch.impact):
            torch.testing.assert_close(column, batch.momenta.pt + k)


def test_no_jets_give_no_batches(tmp_path):
    write_store(tmp_path / "jets.h5", numbered_jets([]))
    for jets in (JetDataset(numbered_jets([])), StoredJets([JetStore(tmp_path / "jets.h5")])):
        loader = JetLoader(jets, 7, shuffle=True)
        assert (list(loader), len(loader)) == ([], 0)


@pytest.mark.parametrize("jets_per_epoch", [2, 30, 101, 250])
@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (1, 2), (3, 0)])
def test_epochs_cut_the_passes_one_after_another(source, jets_per_epoch, processes, workers):
    def loader(**more):
        return JetLoader(source, 7, shuffle=True, seed=2, **more)

    whole = loader()
    passes = [jet for _ in range(5) for jet in read(whole)]
    shards = [
        loader(jets_per_epoch=jets_per_epoch, shard=(rank, processes), workers=workers) for rank in range(processes)
    ]
    epochs = []
    for _ in range(min(7, len(passes) // jets_per_epoch)):
        batches = [list(shard) for shard in shards]
        assert {len(each) for each in batches} == {len(shards[0])}  # of two jets for three processes, too
        epochs.append([jet for each in batches for batch in each for jet in contents(batch)])
    assert {len(epoch) for epoch in epochs} == {jets_per_epoch}
    joined = [jet for epoch in epochs for jet in epoch]
    assert joined == passes[: len(joined)]
    shards[0].set_epoch(len(epochs) - 1)
    assert read(shards[0]) == epochs[-1][: jets_per_epoch // processes]


def test_an_epoch_of_all_jets_has_the_batches_of_a_pass(source):
    passes, epochs = (JetLoader(source, 7, shuffle=True, jets_per_epoch=number) for number in (None, 101))
    for _ in range(3):
        assert list(map(contents, passes)) == list(map(contents, epochs))


def test_only_pools_of_the_epoch_are_read(small_blocks):
    sampler = PoolSampler(np.full(200, 5), shuffle=True, seed=1, shard=(1, 2), jets_per_epoch=60)
    for epoch in (0, 16, 40):  # within the first pass, over its end, far beyond
        sampler.epoch = epoch
        pools = list(sampler)
        assert sum(pool.end - pool.begin for pool in pools) == 30
        assert all(0 <= pool.begin < pool.end <= 5 * len(pool.blocks) <= 15 for pool in pools)


@pytest.mark.parametrize("processes", [2, 103])
def test_processes_agree_on_the_number_of_batches(source, processes):
    loaders = [JetLoader(source, 7, max_pairs=90, shard=(rank, processes)) for rank in range(processes)]
    alone = [[contents(batch) for batch in loader] for loader in loaders]
    most = max(map(len, alone))
    assert processes == 103 or len(set(map(len, alone))) > 1
    for rank, batches in enumerate(alone):
        asked = []

        def any_process(mine, asked=asked):
            asked.append(mine)
            return len(asked) <= most

        loader = JetLoader(source, 7, max_pairs=90, shard=(rank, processes), any_process=any_process)
        assert [contents(batch) for batch in loader] == batches + [[]] * (most - len(batches))
        assert asked == [True] * len(batches) + [False] * (most - len(batches) + 1)


@pytest.mark.parametrize(
    "bad", [{"batch_size": 0}, {"max_pairs": 0}, {"jets_per_epoch": 0}, {"shard": (2, 2)}, {"shard": (-1, 2)}]
)
def test_impossible_settings_are_refused(bad):
    with pytest.raises(ValueError, match="should be"):
        JetLoader(JetDataset(numbered_jets([1, 2])), **({"batch_size": 7} | bad))
