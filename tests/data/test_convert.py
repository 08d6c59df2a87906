import numpy as np
import pytest
from data.conftest import assert_same, numbered_jets
from reader_files import random_momenta, real_file, write_top

from iagraph.data import Jets, StoreError, open_jets, read_store, store_info, write_store
from iagraph.data.convert import convert


def test_files_are_concatenated_without_loss(tmp_path):
    for number, jets in enumerate((5, 0, 7)):
        write_top(tmp_path / f"{number}.h5", random_momenta([3] * jets, number), np.arange(jets) % 2)
    files = [tmp_path / f"{number}.h5" for number in range(3)]
    seen = convert(files, tmp_path / "out.h5")
    jets = read_store(tmp_path / "out.h5")
    assert (len(jets), seen.jets) == (12, 12)
    first, second = next(open_jets(files[0]).parts()), next(open_jets(files[2]).parts())
    assert_same(jets.part(0, 5), first)
    assert_same(jets.part(5, 12), second)
    recorded = store_info(tmp_path / "out.h5").provenance["files"]
    assert [(file["name"], file["jets"]) for file in recorded] == [("0.h5", 5), ("1.h5", 0), ("2.h5", 7)]


def test_stores_are_joined(tmp_path):
    jets = numbered_jets([2, 3, 4])
    write_store(tmp_path / "a.h5", jets.part(0, 2))
    write_store(tmp_path / "b.h5", jets.part(2, 3))
    convert([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "out.h5")
    assert_same(read_store(tmp_path / "out.h5"), jets)


def test_recorded_splits_are_kept(tmp_path):
    jets = numbered_jets([1, 2, 3, 4, 5, 6, 7])
    write_store(tmp_path / "a.h5", jets.part(0, 3), splits={"train": 2, "test": 1}, provenance={"seed": 1})
    write_store(tmp_path / "b.h5", jets.part(3, 7), splits={"train": 1, "test": 3})
    convert([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "out.h5")
    assert_same(read_store(tmp_path / "out.h5", "train"), jets.take([0, 1, 3]))
    assert_same(read_store(tmp_path / "out.h5", "test"), jets.take([2, 4, 5, 6]))
    recorded = store_info(tmp_path / "out.h5").provenance["files"]
    assert [(file["name"], file["split"]) for file in recorded] == [
        ("a.h5", "train"),
        ("b.h5", "train"),
        ("a.h5", "test"),
        ("b.h5", "test"),
    ]
    assert recorded[0]["provenance"] == {"seed": 1}
    write_store(tmp_path / "c.h5", jets)
    with pytest.raises(StoreError, match=r"c\.h5: .* but .*a\.h5: .* with the splits train, test"):
        convert([tmp_path / "a.h5", tmp_path / "c.h5"], tmp_path / "new.h5")


def test_duplicate_and_empty_files_are_refused(tmp_path):
    write_store(tmp_path / "a.h5", numbered_jets([2, 3]))
    write_store(tmp_path / "none.h5", numbered_jets([]))
    with pytest.raises(StoreError, match=r"a\.h5: named twice"):
        convert([tmp_path / "a.h5", tmp_path / "." / "a.h5"], tmp_path / "out.h5")
    with pytest.raises(StoreError, match=r"none\.h5: no jets to convert"):
        convert([tmp_path / "none.h5"], tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_an_existing_file_is_kept(tmp_path):
    write_store(tmp_path / "a.h5", numbered_jets([2, 3]))
    write_store(tmp_path / "out.h5", numbered_jets([1]))
    with pytest.raises(StoreError, match=r"out\.h5: already exists; .*--force"):
        convert([tmp_path / "a.h5"], tmp_path / "out.h5")
    assert len(read_store(tmp_path / "out.h5")) == 1
    convert([tmp_path / "a.h5"], tmp_path / "out.h5", force=True)
    assert len(read_store(tmp_path / "out.h5")) == 2


def test_incompatible_files_leave_no_output(tmp_path):
    write_top(tmp_path / "top.h5", random_momenta([3, 2]), [0, 1])
    write_store(tmp_path / "qg.h5", numbered_jets([2, 3]))
    write_store(tmp_path / "kin.h5", numbered_jets([2, 3], pid=False))
    with pytest.raises(StoreError, match=r"top\.h5: .* classes QCD, top, but .*qg\.h5: .* classes gluon, quark"):
        convert([tmp_path / "qg.h5", tmp_path / "top.h5"], tmp_path / "out.h5")
    weighted = numbered_jets([2, 3])
    write_store(tmp_path / "weighted.h5", Jets(**vars(weighted) | {"weight": np.ones(2, np.float32)}))
    for name, found in (("kin", "mass, phi, pt, rapidity"), ("weighted", "mass, phi, pid, pt, rapidity, weights")):
        message = rf"{name}\.h5: its jets have {found}, those of .*qg\.h5 have mass, phi, pid, pt, rapidity; convert"
        with pytest.raises(StoreError, match=message):
            convert([tmp_path / "qg.h5", tmp_path / f"{name}.h5"], tmp_path / "out.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kin.h5", "qg.h5", "top.h5", "weighted.h5"]


def test_damaged_file_leaves_the_old_store(tmp_path):
    write_store(tmp_path / "a.h5", numbered_jets([30] * 3000))
    damaged = bytearray((tmp_path / "a.h5").read_bytes())
    damaged[len(damaged) // 2] ^= 255
    (tmp_path / "b.h5").write_bytes(damaged)
    write_store(tmp_path / "out.h5", numbered_jets([1]))
    with pytest.raises(StoreError, match=r"b\.h5"):
        convert([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "out.h5", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5", "out.h5"]
    assert len(read_store(tmp_path / "out.h5")) == 1


def test_real_top_jets_have_their_known_properties(tmp_path):
    seen = convert([real_file("top_excerpt.h5")], tmp_path / "top.h5")
    jets = read_store(tmp_path / "top.h5")
    assert len(jets) == seen.jets == 1000
    assert (jets.counts.min(), jets.counts.max()) == (8, 114)
    assert (jets.particles["mass"] == 0).all()
    assert "| top | 500 |" in seen.table()


class TestShards:
    @pytest.fixture
    def shards(self, tmp_path):
        def write(name, number, of=3, seed=1):
            about = {"shard": [number, of], "jets": 6, "config": {"seed": seed}}
            write_store(tmp_path / name, numbered_jets([number, number + 1]), provenance=about)
            return tmp_path / name

        return write

    def test_are_joined_in_any_order(self, shards, tmp_path):
        convert([shards("b.h5", 2), shards("c.h5", 3), shards("a.h5", 1)], tmp_path / "out.h5")
        assert len(read_store(tmp_path / "out.h5")) == 6

    def test_missing_shard(self, shards, tmp_path):
        with pytest.raises(StoreError, match=r"shard 2 of 3 is missing next to .*a\.h5"):
            convert([shards("a.h5", 1), shards("c.h5", 3)], tmp_path / "out.h5")

    def test_duplicate_shard(self, shards, tmp_path):
        with pytest.raises(StoreError, match=r"copy\.h5: shard 1 of 3, as is .*a\.h5"):
            convert([shards("a.h5", 1), shards("b.h5", 2), shards("copy.h5", 1)], tmp_path / "out.h5")

    def test_shard_of_another_sample(self, shards, tmp_path):
        with pytest.raises(
            StoreError, match=r"other\.h5: a shard of a different sample than .*a\.h5 \(differs in config\)"
        ):
            convert([shards("a.h5", 1), shards("b.h5", 2), shards("other.h5", 3, seed=2)], tmp_path / "out.h5")
        assert not (tmp_path / "out.h5").exists()
