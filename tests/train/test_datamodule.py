import numpy as np
import pytest
import torch

from iagraph.data import Jets, StoreError, keep_hardest, read_store, write_store
from iagraph.testing import random_jets
from iagraph.train.config import DataConfig
from iagraph.train.datamodule import ROLES, JetDataModule


def jets(number, seed=0, classes=("gluon", "quark"), pid=True, impact=()):
    random = np.random.default_rng(seed)
    counts = random.integers(1, 9, number)
    total = counts.sum()
    columns = {name: random.uniform(0.1, 2, total).astype(np.float32) for name in ("pt", "rapidity", "phi", "mass")}
    if pid:
        columns["pid"] = np.full(total, 211, dtype=np.int32)
    columns |= {name: random.exponential(0.5, total).astype(np.float32) for name in impact}
    offsets = np.concatenate([[0], counts.cumsum()]).astype(np.int64)
    return Jets(columns, offsets, np.arange(number) % len(classes), classes)


def config(train, val, test, **settings):
    given = {"node_features": "kin", "pair_features": "invariant", "signal": "quark", "batch_size": 5} | settings
    return DataConfig(train=train, val=val, test=test, **given)


@pytest.fixture
def split_file(tmp_path):
    path = tmp_path / "split.h5"
    write_store(path, jets(20), splits={"train": 11, "val": 2, "test": 7})
    return str(path)


def whole_file(tmp_path, name, number, **settings):
    path = tmp_path / name
    write_store(path, jets(number, **settings))
    return str(path)


def test_recorded_splits_divide_one_file(split_file):
    data = JetDataModule(config(split_file, split_file, split_file), seed=1)
    assert [len(data.datasets[role]) for role in ("train", "val", "test")] == [11, 2, 7]
    assert data.signal == 1
    whole = jets(20)
    assert np.array_equal(data.datasets["test"].label, whole.label[13:])
    assert np.array_equal(data.datasets["val"][:].momenta.pt, whole.take([11, 12]).particles["pt"])


def test_files_without_splits_are_concatenated(tmp_path):
    one, two, three, four = (whole_file(tmp_path, f"{n}.h5", n, seed=n) for n in (3, 5, 7, 11))
    data = JetDataModule(config([one, two], three, four), seed=1)
    assert [len(data.datasets[role]) for role in ("train", "val", "test")] == [8, 7, 11]
    assert {role: list(files) for role, files in data.fingerprints.items()} == {
        "train": [one, two],
        "val": [three],
        "test": [four],
    }


def test_patterns_and_home_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    one, two, three, four = (whole_file(tmp_path, f"part_{n}.h5", n, seed=n) for n in (5, 7, 10, 11))
    settings = config("~/part_?.h5", "~/part_10.h5", str(tmp_path / "*_11.h5"))
    assert (settings.train, settings.val, settings.test) == ([one, two], [three], [four])
    data = JetDataModule(settings, seed=1)
    assert [len(data.datasets[role]) for role in ROLES] == [12, 10, 11]
    with pytest.raises(ValueError, match=r"matches no files: ~/none_\*\.h5: no file matches this pattern"):
        config("~/none_*.h5", one, two)


def test_jets_shared_by_two_roles(tmp_path):
    one, two = whole_file(tmp_path, "1.h5", 40), whole_file(tmp_path, "2.h5", 7, seed=2)
    with pytest.raises(StoreError, match=r"data\.train and data\.test have 100% of their jets in common"):
        JetDataModule(config(one, two, one), seed=1)
    # Detected despite splits and another order of jets and particles.
    known = np.flatnonzero(jets(40).counts > 1)[[9, 3]]
    mixed = Jets.concatenate([jets(30, seed=3), keep_hardest(jets(40), 99).take(known)])
    write_store(tmp_path / "mixed.h5", mixed, splits={"test": 32})
    with pytest.raises(StoreError, match=r"data\.train and data\.test have \d% of their jets in common"):
        JetDataModule(config(one, two, str(tmp_path / "mixed.h5")), seed=1)


def test_duplicate_jets_in_one_role(tmp_path):
    one, two, three = (whole_file(tmp_path, f"{n}.h5", n, seed=n) for n in (20, 30, 40))
    with pytest.raises(StoreError, match=r"data\.test: 50% of the jets are duplicates; is a file listed twice"):
        JetDataModule(config(one, two, [three, three]), seed=1)


def test_missing_split(tmp_path):
    path = tmp_path / "a.h5"
    write_store(path, jets(5), splits={"train": 3, "test": 2})
    with pytest.raises(StoreError, match=r"no split 'val'; available: train, test"):
        JetDataModule(config(str(path), str(path), str(path)), seed=1)


def test_no_jets(tmp_path, split_file):
    with pytest.raises(
        StoreError, match=r"empty\.h5 \(val\): none of the 0 jets is of the classes gluon, quark; add some$"
    ):
        JetDataModule(config(split_file, whole_file(tmp_path, "empty.h5", 0), split_file), seed=1)


def test_classes_must_be_equal(tmp_path, split_file):
    other = whole_file(tmp_path, "other.h5", 5, classes=("QCD", "top"))
    with pytest.raises(StoreError, match=r"other\.h5 \(test\): classes \('QCD', 'top'\) differ"):
        JetDataModule(config(split_file, split_file, other), seed=1)


def test_jets_of_both_classes_are_needed(tmp_path, split_file):
    mixed = jets(6)
    path = tmp_path / "quarks.h5"
    write_store(path, mixed.take([1, 3, 5]))
    with pytest.raises(StoreError, match=r"quarks\.h5 \(test\): none of the 3 jets is of the class 'gluon'"):
        JetDataModule(config(split_file, split_file, str(path)), seed=1)


class TestThreeClasses:
    @pytest.fixture
    def files(self, tmp_path):
        return [whole_file(tmp_path, f"{n}.h5", n, seed=n, classes=("QCD", "Z", "top")) for n in (5, 7, 11)]

    def test_many_classes_have_no_signal(self, files):
        data = JetDataModule(config(*files, signal=None, signal_efficiency={"top": 0.3, "Z": 1}), seed=1)
        assert (data.classes, data.signal) == (("QCD", "Z", "top"), None)

    def test_signal_is_refused_for_many_classes(self, files):
        message = r"5\.h5 \(train\): 3 classes \(QCD, Z, top\) have no single signal, found data\.signal=top; set "
        with pytest.raises(StoreError, match=f"{message}data.signal=null: QCD, the first, is the background"):
            JetDataModule(config(*files, signal="top"), seed=1)

    def test_two_classes_can_be_chosen(self, files):
        chosen = {"QCD": ["QCD"], "top": ["top"]}
        data = JetDataModule(config(*files, classes=["QCD", "top"], signal="top"), seed=1)
        assert (data.classes, data.signal) == (("QCD", "top"), 1)
        assert data.config.classes == chosen
        for role, file in zip(ROLES, files, strict=True):
            expected = [label // 2 for label in read_store(file).label if label != 1]
            assert data.datasets[role].label.tolist() == expected
            stored = JetDataModule(config(*files, classes=chosen, signal="top", in_memory=False), seed=1)
            assert stored.datasets[role].label.tolist() == expected

    def test_classes_can_be_merged(self, files):
        chosen = {"background": ["QCD", "Z"], "top": ["top"]}
        data = JetDataModule(config(*files, classes=chosen, signal="top"), seed=1)
        assert data.datasets["test"].label.tolist() == [label // 2 for label in read_store(files[2]).label]

    def test_files_with_missing_classes_advise_a_choice(self, files, tmp_path):
        for number, file in enumerate(files):
            few = read_store(file)
            write_store(tmp_path / f"few{number}.h5", few.take(few.label != 1))
        few = [str(tmp_path / f"few{number}.h5") for number in range(3)]
        for signal in (None, "top"):
            with pytest.raises(StoreError, match=r"is of the class 'Z'; add some, or .*: data\.classes=\[QCD,top\]$"):
                JetDataModule(config(*few, signal=signal), seed=1)
        assert JetDataModule(config(*few, classes=["QCD", "top"], signal="top"), seed=1).signal == 1

    @pytest.mark.parametrize("name", ["bottom", "QCD"])
    def test_working_points_need_signal_classes(self, files, name):
        with pytest.raises(StoreError, match=rf"no signal class {name} \(data\.signal_efficiency\); available: Z, top"):
            JetDataModule(config(*files, signal=None, signal_efficiency={"top": 0.3, name: 0.7}), seed=1)

    def test_every_class_is_needed(self, files, tmp_path):
        write_store(tmp_path / "lacks.h5", jets(30, seed=3, classes=("QCD", "Z", "top")).take([0, 2, 3, 5]))
        with pytest.raises(StoreError, match=r"lacks\.h5 \(val\): none of the 4 jets is of the class 'Z'; add some"):
            JetDataModule(config(files[0], str(tmp_path / "lacks.h5"), files[2], signal=None), seed=1)

    def test_max_jets_must_include_every_class(self, files):
        with pytest.raises(StoreError, match=r"\(train, data\.max_jets=2\): none of the 2 jets is of the class"):
            JetDataModule(config(*files, signal=None, max_jets=2), seed=1)


def test_single_class_is_refused(tmp_path):
    files = [whole_file(tmp_path, f"{n}.h5", n, classes=("gluon",)) for n in (5, 7, 11)]
    with pytest.raises(StoreError, match=r"one class only \(gluon\); a tagger needs two or more"):
        JetDataModule(config(*files, signal="gluon"), seed=1)


def test_two_classes_need_a_signal_and_fixed_working_points(split_file):
    with pytest.raises(StoreError, match=r"two classes \(gluon, quark\); name the signal: data\.signal=quark"):
        JetDataModule(config(split_file, split_file, split_file, signal=None), seed=1)
    with pytest.raises(StoreError, match=r"signal efficiencies 0\.5 and 0\.3; remove data\.signal_efficiency"):
        JetDataModule(config(split_file, split_file, split_file, signal_efficiency={"quark": 0.7}), seed=1)


def test_signal_must_be_a_class(split_file):
    with pytest.raises(StoreError, match=r"no class 'top' \(data\.signal\); available: gluon, quark"):
        JetDataModule(config(split_file, split_file, split_file, signal="top"), seed=1)


def test_species_are_required_by_kinpid(tmp_path):
    files = [whole_file(tmp_path, f"{n}.h5", n, pid=False) for n in (3, 5, 7)]
    with pytest.raises(StoreError, match=r"no particle species .* set data\.node_features=kin"):
        JetDataModule(config(*files, node_features="kinpid"), seed=1)
    JetDataModule(config(*files), seed=1)


def test_full_needs_species_and_impact_parameters(tmp_path):
    def files(folder, **columns):
        (tmp_path / folder).mkdir()
        return [whole_file(tmp_path / folder, f"{n}.h5", n, seed=n, **columns) for n in (3, 5, 7)]

    every = ("d0", "d0_error", "dz", "dz_error")
    with pytest.raises(
        StoreError, match=r"no particle species \(pid\), which full needs; set data\.node_features=kin$"
    ):
        JetDataModule(config(*files("a", pid=False, impact=every), node_features="full"), seed=1)
    for folder, some in (("b", ()), ("c", ("d0", "d0_error", "dz"))):
        lacking = ", ".join(every[len(some) :])
        message = rf"no impact parameters \({lacking}\), which full needs; set data\.node_features=kinpid"
        with pytest.raises(StoreError, match=message):
            JetDataModule(config(*files(folder, impact=some), node_features="full"), seed=1)
    JetDataModule(config(*files("d", impact=every), node_features="full"), seed=1)


def test_unknown_sample(split_file):
    with pytest.raises(StoreError, match="sample:top: no such sample; available: sample:qg"):
        JetDataModule(config("sample:top", split_file, split_file), seed=1)


def test_missing_file(split_file):
    with pytest.raises(StoreError, match=r"nowhere\.h5: no such file"):
        JetDataModule(config("nowhere.h5", split_file, split_file), seed=1)


def test_max_jets_is_a_random_choice(split_file):
    def chosen(seed):
        return (
            JetDataModule(config(split_file, split_file, split_file, max_jets=4), seed).datasets["train"][:].momenta.pt
        )

    first = JetDataModule(config(split_file, split_file, split_file), 1).datasets["train"][:4].momenta.pt
    assert chosen(1).tolist() == chosen(2).tolist() != first.tolist()  # not just the first ones, and whatever the seed
    data = JetDataModule(config(split_file, split_file, split_file, max_jets=4), seed=1)
    assert [len(data.datasets[role]) for role in ("train", "val", "test")] == [4, 2, 7]


def test_max_particles_keeps_the_multiplicity(split_file):
    data = JetDataModule(config(split_file, split_file, split_file, max_particles=2), seed=1)
    whole = jets(20).counts
    assert max(batch.ptr.diff().max() for batch in data.test_dataloader()) == 2
    assert data.datasets["test"].multiplicity.tolist() == whole[13:].tolist()


class TestInStores:
    def test_streamed_jets_are_the_same(self, split_file):
        memory, stored = (
            JetDataModule(config(split_file, split_file, split_file, in_memory=flag), seed=1) for flag in (True, False)
        )
        for role in ("train", "val", "test"):
            assert torch.equal(stored.datasets[role].label, memory.datasets[role].label)
            assert torch.equal(stored.datasets[role][:].momenta.phi, memory.datasets[role][:].momenta.phi)
            assert stored.datasets[role][:].pid is None  # unused columns are not read
        assert [len(batch) for batch in stored.train_dataloader()] == [5, 5, 1]
        assert len(stored.trained_on) == 0

    def test_same_split_in_two_roles(self, tmp_path, split_file):
        other = whole_file(tmp_path, "other.h5", 9, seed=3)
        with pytest.raises(StoreError, match=r"other\.h5 \(test\): shares jets with .*other\.h5 \(train\)"):
            JetDataModule(config(other, split_file, other, in_memory=False), seed=1)

    def test_max_pairs_bounds_every_batch(self, split_file):
        data = JetDataModule(config(split_file, split_file, split_file, max_pairs=40), seed=1)
        for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
            sizes = [batch.ptr.diff() for batch in loader]
            assert max(int((n * (n + 1) // 2).sum()) for n in sizes) <= 40

    def test_max_jets_requires_in_memory(self):
        with pytest.raises(ValueError, match="set in_memory to true"):
            config("a", "b", "c", in_memory=False, max_jets=3)


def test_copies_to_a_gpu_run_in_the_background(split_file, monkeypatch):
    data = JetDataModule(config(split_file, split_file, split_file), seed=1)
    pinned, copies, batch = [], [], random_jets([7, 0, 5])

    def pin(tensor):
        pinned.append(tensor.clone())
        return pinned[-1]

    def copied(tensor, device, non_blocking=False):
        copies.append((any(tensor is each for each in pinned), str(device), non_blocking))
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "to", copied)
    moved = data.transfer_batch_to_device(batch, torch.device("cuda:0"), 0)
    assert copies == [(True, "cuda:0", True)] * 11  # momenta, boundaries, species, labels, impact parameters
    assert vars(moved)["sizes"] == [7, 0, 5]  # known, without waiting for the copies
    assert data.transfer_batch_to_device(batch, torch.device("cpu"), 0).ptr is batch.ptr
    assert len(pinned) == 11
