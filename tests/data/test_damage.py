"""Damaged files give an error or the original jets, and valid jets give finite numbers."""

from functools import cache

import numpy as np
import pytest
import torch
from data.conftest import assert_same, numbered_jets
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reader_files import outcome, random_momenta, write_jetclass, write_top
from small_models import MODELS

from iagraph.data import JetDataset, Jets, StoreError, read_store, write_store
from iagraph.data.jets import offsets_of
from iagraph.kinematics import LIMITS, NODE_FEATURES, PAIR_FEATURES

COUNTS = [3, 1, 0, 5, 2]
COLUMNS = ("pt", "rapidity", "phi", "mass", "d0", "d0_error", "dz", "dz_error")


@st.composite
def damages(draw):
    """Ways to damage a file: flipped bytes, a block of zeros, truncation, a repeated piece."""
    place, size = draw(st.floats(0, 1)), draw(st.integers(1, 512))

    def damaged(content):
        content = bytearray(content)
        begin = int(place * (len(content) - 1))
        kind = size % 4
        if kind == 0:
            content[begin] ^= size % 255 + 1
        elif kind == 1:
            content[begin : begin + size] = bytes(len(content[begin : begin + size]))
        elif kind == 2:
            del content[begin:]
        else:
            content[begin:begin] = content[begin : begin + size]
        return bytes(content)

    return damaged


@settings(max_examples=150)
@given(damage=damages())
def test_damaged_store_gives_the_original_jets_or_an_error(tmp_path_factory, damage):
    path = tmp_path_factory.mktemp("store") / "jets.h5"
    jets = numbered_jets(COUNTS)
    write_store(path, jets, splits={"train": 3, "test": 2})
    path.write_bytes(damage(path.read_bytes()))
    try:
        found = read_store(path)
    except StoreError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert_same(found, Jets(dict(sorted(jets.particles.items())), jets.offsets, jets.label, jets.classes))


@pytest.mark.parametrize("kind", ["top", "energyflow", "jetclass"])
def test_damaged_foreign_files_give_jets_or_an_error(tmp_path, kind):
    momenta, label = random_momenta(COUNTS), np.arange(len(COUNTS)) % 2
    path = tmp_path / {"top": "a.h5", "energyflow": "a.npz", "jetclass": "a.root"}[kind]
    if kind == "energyflow":
        photons = np.abs(np.tanh(momenta[..., :3])), 22 * (momenta[..., :1] > 0)  # pt, rapidity, phi, pid
        np.savez(path, X=np.concatenate(photons, axis=2), y=label)
    else:
        {"top": write_top, "jetclass": write_jetclass}[kind](path, momenta, label)
    content = path.read_bytes()
    assert len(outcome(path)) == len(COUNTS)

    @settings(max_examples=60)
    @given(damage=damages())
    def check(damage):
        path.write_bytes(damage(content))
        outcome(path)

    check()


def columns_of(size):
    kinds = {name: st.floats(-1, 1, width=32) for name in COLUMNS} | {"phi": st.floats(-1e3, 1e3, width=32)}
    kinds |= {
        "pt": st.floats(0, LIMITS["pt"], width=32, exclude_min=True),
        "mass": st.floats(0, LIMITS["mass"], width=32),
    }
    kinds |= {"rapidity": st.floats(-LIMITS["rapidity"], LIMITS["rapidity"], width=32)}
    kinds |= {name: st.floats(0, 1, width=32) for name in ("d0_error", "dz_error")}
    return st.fixed_dictionaries(
        {name: hnp.arrays(np.float32, size, elements=kind) for name, kind in kinds.items()}
        | {"pid": hnp.arrays(np.int32, size)}
    )


@cache
def models():
    torch.manual_seed(3)
    return {name: make().eval() for name, make in MODELS.items()}


@settings(max_examples=60)
@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=5), data=st.data())
def test_everything_computed_from_valid_jets_is_finite(counts, data):
    jets = Jets(data.draw(columns_of(sum(counts))), offsets_of(counts), np.arange(len(counts)) % 2, ("a", "b"))
    jets.validate("what was drawn")
    batch = JetDataset(jets)[:]
    for name in NODE_FEATURES:
        assert batch.node_features(name).isfinite().all(), name
    first, second = batch.prunable_graph().edge_index
    for name in PAIR_FEATURES:
        assert batch.edge_features(name, first, second).isfinite().all(), name
    with torch.inference_mode():
        for name, model in models().items():
            assert model(batch).isfinite().all(), name


@settings(max_examples=60)
@given(data=st.data(), column=st.sampled_from(COLUMNS), value=st.floats(width=32))
def test_any_number_is_accepted_or_named(data, column, value):
    jets = Jets(data.draw(columns_of(5)), offsets_of([2, 3]), np.array([0, 1]), ("a", "b"))
    jets.particles[column][3] = value
    fits = np.isfinite(value) and abs(value) <= LIMITS.get(column, np.inf)
    if fits and not (column == "pt" and value <= 0) and not (column == "mass" and value < 0):
        jets.validate("what was drawn")
    else:
        with pytest.raises(StoreError, match=rf"^what was drawn: jet 1, particle 1: {column} = .*, expected finite"):
            jets.validate("what was drawn")
