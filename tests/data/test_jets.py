import numpy as np
import pytest

from iagraph.data import Jets, StoreError, keep_hardest, read_store, store_info, write_store

COUNTS = np.array([3, 0, 2, 1, 7])


def jets(seed=1, classes=("gluon", "quark")):
    random = np.random.default_rng(seed)
    total = COUNTS.sum()
    columns = {name: random.uniform(0.1, 2, total).astype(np.float32) for name in ("pt", "rapidity", "phi", "mass")}
    offsets = np.concatenate([[0], COUNTS.cumsum()]).astype(np.int64)
    return Jets(columns, offsets, np.arange(len(COUNTS)) % 2, classes)


class TestDigests:
    def test_digests_ignore_file_and_particle_order(self):
        digests = jets().digests()
        assert digests.dtype == np.uint64
        assert len(np.unique(digests)) == 3  # those of two particles or more
        assert jets().take([4, 2, 0]).digests().tolist() == digests[::-1].tolist()
        by_pt = keep_hardest(jets(), 99)
        assert not np.array_equal(by_pt.particles["pt"], jets().particles["pt"])
        assert by_pt.digests().tolist() == digests.tolist()
        assert not set(digests) & set(jets(seed=2).digests())

    @pytest.mark.parametrize("name", ["pt", "rapidity", "phi"])
    def test_digests_depend_on_every_value(self, name):
        changed = jets()
        changed.particles[name][3] = np.nextafter(changed.particles[name][3], np.float32(9))
        same = changed.digests() == jets().digests()
        assert same.tolist() == [True, False, True]

    def test_digests_keep_values_of_a_particle_together(self):
        changed = jets()
        for name in ("rapidity", "phi"):
            changed.particles[name][[0, 1]] = changed.particles[name][[1, 0]]
        assert changed.digests()[0] != jets().digests()[0]

    def test_no_jets(self):
        assert jets().take([]).digests().tolist() == []


def test_class_names_must_be_unique(tmp_path):
    with pytest.raises(StoreError, match=r"classes \('quark', 'quark'\) hold a name twice"):
        write_store(tmp_path / "a.h5", jets(classes=("quark", "quark")))


def test_split_counts_may_be_numpy_integers(tmp_path):
    write_store(tmp_path / "a.h5", jets(), splits={"train": np.int64(2), "test": np.int32(3)})
    assert store_info(tmp_path / "a.h5").splits == {"train": 2, "test": 3}
    assert len(read_store(tmp_path / "a.h5", "test")) == 3


@pytest.mark.parametrize("real", [None, [[True, False, True], [False, False, False], [True, True, True]]])
def test_padding_of_tables_is_dropped(real):
    pt = np.array([[5, 0, 3], [0, 0, 0], [1, 2, 4]])
    tables = {"pt": pt, "rapidity": pt / 10, "phi": -pt / 10, "mass": 0 * pt, "pid": 11 * pt, "charge": pt.astype("i2")}
    made = Jets.from_padded(tables, [0, 1.0, True], ["a", "b"], real)
    made.validate("made")
    assert made.counts.tolist() == [2, 0, 3]
    assert made.particles["pt"].tolist() == [5, 3, 1, 2, 4]
    assert made.particles["rapidity"].tolist() == pytest.approx([0.5, 0.3, 0.1, 0.2, 0.4])
    assert made.particles["pid"].tolist() == [55, 33, 11, 22, 44]
    assert {name: column.dtype.name for name, column in made.particles.items()} == {
        **dict.fromkeys(("pt", "rapidity", "phi", "mass"), "float32"),
        "pid": "int32",
        "charge": "int16",
    }
    assert (made.label.tolist(), made.classes) == ([0, 1, 1], ("a", "b"))
