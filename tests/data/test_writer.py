import datetime
import resource
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from data.conftest import assert_same, numbered_jets

from iagraph.data import Jets, JetStore, StoreError, StoreWriter, read_store, store_info, write_store


def write(path, classes, *parts):
    """Append jets, or (jets, split), or raise an exception given among them."""
    with StoreWriter(path, classes) as writer:
        for part in parts:
            if isinstance(part, BaseException):
                raise part
            writer.append(*part) if isinstance(part, tuple) else writer.append(part)


COUNTS = np.random.default_rng(0).integers(0, 9, 53)


@pytest.mark.parametrize("size", [1, 7, 53, 100])
def test_parts_give_the_same_store_as_the_whole(tmp_path, size):
    jets = numbered_jets(COUNTS, impact=True)
    write_store(tmp_path / "whole.h5", jets, splits={"train": 31, "test": 22}, provenance={"x": 1})
    with StoreWriter(tmp_path / "parts.h5", jets.classes, {"x": 1}) as writer:
        for split, begin, end in (("train", 0, 31), ("test", 31, 53)):
            for first in range(begin, end, size):
                writer.append(jets.part(first, min(first + size, end)), split)
    assert_same(read_store(tmp_path / "parts.h5"), read_store(tmp_path / "whole.h5"))
    whole, parts = store_info(tmp_path / "whole.h5"), store_info(tmp_path / "parts.h5")
    assert (parts.fingerprint, parts.splits, parts.provenance) == (whole.fingerprint, whole.splits, whole.provenance)
    assert_same(Jets.concatenate(list(JetStore(tmp_path / "parts.h5").parts(size))), read_store(tmp_path / "whole.h5"))


def test_memory_does_not_grow_with_the_store(tmp_path):
    jets = numbered_jets(np.full(1000, 30))

    def peak(parts):
        tracemalloc.start()
        with StoreWriter(tmp_path / "jets.h5", jets.classes) as writer:
            for _ in range(parts):
                writer.append(jets)
        for part in JetStore(tmp_path / "jets.h5").parts(1000):
            assert len(part) == 1000
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)  # lazy imports
    assert peak(24) < 1.2 * peak(3)


def test_calls_in_the_wrong_order_leave_no_file(tmp_path):
    jets, other = numbered_jets([2, 3]), numbered_jets([2, 3], pid=False)
    orders = {
        "some jets have a split and some have none": [(jets, "train"), (jets, None)],
        "some jets have a split and some": [(jets, None), (jets, "train")],
        "more jets of split 'train' after 'test'": [(jets, "train"), (jets, "test"), (jets, "train")],
        "columns .* differ from those of earlier jets": [(jets, None), (other, None)],
        "nothing to write; append jets": [],
    }
    for message, parts in orders.items():
        with pytest.raises(StoreError, match=rf"jets\.h5: {message}"):
            write(tmp_path / "jets.h5", jets.classes, *parts)
    with pytest.raises(StoreError, match=r"classes .* differ"):
        write(tmp_path / "jets.h5", ("a", "b"), jets)
    assert list(tmp_path.iterdir()) == []


def test_invalid_jets_are_named_by_their_number(tmp_path):
    good, bad = numbered_jets([2, 3, 1]), numbered_jets([4, 2])
    bad.particles["phi"][5] = np.nan
    with pytest.raises(StoreError, match=r"jet 4, particle 1: phi = nan"):
        write(tmp_path / "jets.h5", good.classes, good, bad)
    assert list(tmp_path.iterdir()) == []


def test_an_exception_in_the_block_keeps_the_old_file(tmp_path):
    jets = numbered_jets([2, 3])
    write_store(tmp_path / "jets.h5", jets)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "jets.h5", jets.classes, numbered_jets([4]), KeyboardInterrupt())
    assert_same(read_store(tmp_path / "jets.h5"), jets)
    assert [path.name for path in tmp_path.iterdir()] == ["jets.h5"]


def test_interruption_while_the_file_is_made_leaves_none_and_none_open(tmp_path, monkeypatch):
    class Interrupted(h5py.File):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            raise KeyboardInterrupt

    def opened():
        return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)

    before = opened()
    monkeypatch.setattr("iagraph.data.writer.h5py.File", Interrupted)
    with pytest.raises(KeyboardInterrupt) as held:  # with its traceback, which would keep the file open
        write(tmp_path / "jets.h5", ("gluon", "quark"), numbered_jets([2]))
    assert held.value.__traceback__ is not None
    assert opened() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [0, 1000, 100_000, 400_000])
def test_full_disk_between_parts_is_an_error(tmp_path, limit):
    jets = numbered_jets(np.full(500, 50))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(StoreError, match=r"jets\.h5: cannot write .*free space"):
            write(tmp_path / "jets.h5", jets.classes, *[jets] * 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_particles_are_stored_in_small_chunks(tmp_path):
    write_store(tmp_path / "jets.h5", numbered_jets(np.full(2000, 40)))
    with h5py.File(tmp_path / "jets.h5") as file:
        assert all(column.chunks == (8192,) for column in file["particles"].values())


@pytest.mark.parametrize("name", ["E/p", "/x", "./x", "label", "offsets", "", ".", "a\0b", "\udcff", 3])
def test_unreadable_column_names_are_refused_before_writing(tmp_path, name):
    jets = numbered_jets([2, 3])
    jets.particles[name] = jets.offsets.repeat(2)[:5]
    with StoreWriter(tmp_path / "jets.h5", jets.classes) as writer:
        with pytest.raises(
            StoreError, match=r"jets\.h5: a column cannot be named .*; use printable text .*label, offsets"
        ):
            writer.append(jets)
        del jets.particles[name]
        jets.particles["E over p_2 (ü)"] = jets.particles["pt"]
        writer.append(jets)
    assert "E over p_2 (ü)" in read_store(tmp_path / "jets.h5").particles


def test_provenance_is_converted_to_json_types(tmp_path):
    provenance = {
        "seed": np.int64(7),
        "energy": [np.float32(0.5), np.float64(13.6), np.bool_(True), np.array([[1, 2]])],
        "file": Path("a/b.root"),
        "made": (datetime.date(2025, 11, 27), datetime.datetime(2025, 11, 27, 12), np.datetime64("2025-11-27")),
        "nothing": {"at all": None},
    }
    write_store(tmp_path / "jets.h5", numbered_jets([2]), provenance=provenance)
    assert store_info(tmp_path / "jets.h5").provenance == {
        "seed": 7,
        "energy": [0.5, 13.6, True, [[1, 2]]],
        "file": "a/b.root",
        "made": ["2025-11-27", "2025-11-27T12:00:00", "2025-11-27"],
        "nothing": {"at all": None},
    }


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({1, 2}, r"provenance\['a'\]\[0\] is of type set"),
        (1j, r"provenance\['a'\]\[0\] is of type complex"),
        (np.complex64(1), r"provenance\['a'\]\[0\] is of type complex64"),
        (b"x", r"provenance\['a'\]\[0\] is of type bytes"),
        ({"b": object()}, r"provenance\['a'\]\[0\]\['b'\] is of type object"),
        ({"b": {3: 4}}, r"provenance\['a'\]\[0\]\['b'\] has the key 3 of type int"),
    ],
)
def test_provenance_outside_json_is_refused_before_writing(tmp_path, value, found):
    with pytest.raises(StoreError, match=rf"jets\.h5: {found}, which JSON cannot hold; give numbers"):
        StoreWriter(tmp_path / "jets.h5", ("a",), {"a": [value]})


def test_classes_must_be_strings(tmp_path):
    with pytest.raises(StoreError, match=r"jets\.h5: class 1 is not a string; give"):
        StoreWriter(tmp_path / "jets.h5", ("a", 1))
