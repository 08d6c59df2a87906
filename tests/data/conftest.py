import numpy as np
import pytest

from iagraph.data import Jets


def numbered_jets(counts, pid=True, impact=False, first=0):
    """Jets whose values identify them: pt 203.5 is particle 3 of jet 2, if that is less than 100."""
    random = np.random.default_rng(1)
    total = int(np.sum(counts))
    columns = {name: random.normal(size=total).astype(np.float32) for name in ("rapidity", "phi")}
    number = np.concatenate(
        [[], *(100 * jet + np.arange(count) + 0.5 for jet, count in enumerate(counts, start=first))]
    )
    columns |= {"pt": number.astype(np.float32), "mass": number.astype(np.float32) / 7}
    if pid:
        columns["pid"] = -number.astype(np.int32)
    if impact:
        names = ("d0", "d0_error", "dz", "dz_error")
        columns |= {name: (number + k).astype(np.float32) for k, name in enumerate(names)}
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Jets(columns, offsets, np.arange(first, first + len(counts)) % 2, ("gluon", "quark"))


def contents(batch):
    """Each jet of a batch as its label and the pt of its particles."""
    parts = batch.momenta.pt.split(batch.ptr.diff().tolist())
    return [(label, tuple(part.tolist())) for label, part in zip(batch.y.tolist(), parts, strict=True)]


def expected(counts, first=0):
    """What `contents` finds in `numbered_jets`."""
    jets = enumerate(counts, start=first)
    return [(k % 2, tuple(100 * k + i + 0.5 for i in range(count))) for k, count in jets]


def assert_same(one, other):
    """Equal jets, to the last bit."""
    assert one.classes == other.classes
    assert one.particles.keys() == other.particles.keys()
    pairs = [(one.particles[name], other.particles[name]) for name in one.particles]
    for left, right in [*pairs, (one.offsets, other.offsets), (one.label, other.label)]:
        assert left.dtype == right.dtype
        assert left.tobytes() == right.tobytes()


@pytest.fixture
def small_blocks(monkeypatch):
    """Small blocks and pools, so that few jets need many of them."""
    monkeypatch.setattr("iagraph.data.sources.BLOCK", 5)
    monkeypatch.setattr("iagraph.data.loader.POOL", 17)
