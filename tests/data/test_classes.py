import numpy as np
import pytest
from data.conftest import assert_same, contents, numbered_jets

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
from iagraph.data.classes import ChosenClasses, parse_classes
from iagraph.data.convert import convert

NAMES = ("QCD", "W", "Z", "top")


def four_classes(number, sort=False):
    """Jets of four classes, one after another or mixed; the labels are 0, 1, 2, 3, 0, ... or sorted."""
    jets = numbered_jets(np.arange(number) % 5 + 1)
    label = np.arange(number) % 4
    return Jets(jets.particles, jets.offsets, np.sort(label) if sort else label, NAMES)


def by_hand(jets, chosen):
    """The jets of the new classes, one by one."""
    names = list(chosen)
    wanted = [next((k for k, new in enumerate(names) if NAMES[label] in chosen[new]), -1) for label in jets.label]
    kept = jets.take(np.flatnonzero(np.array(wanted) >= 0))
    return Jets(kept.particles, kept.offsets, np.array([k for k in wanted if k >= 0], np.int64), tuple(names))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["QCD,top"], {"QCD": ("QCD",), "top": ("top",)}),
        (["top,QCD"], {"top": ("top",), "QCD": ("QCD",)}),
        (["background=QCD,Z, W", "top"], {"background": ("QCD", "Z", "W"), "top": ("top",)}),
    ],
)
def test_classes_on_a_command_line(texts, expected):
    assert parse_classes(texts) == expected
    assert list(parse_classes(texts)) == list(expected)


@pytest.mark.parametrize("texts", [[""], ["QCD,"], ["=QCD"], ["a="], ["QCD,QCD"], ["a=W", "a=Z"], ["a=W,W"]])
def test_wrong_classes_on_a_command_line(texts):
    with pytest.raises(StoreError, match=r"^--classes "):
        parse_classes(texts)


CHOICES = [{"QCD": ["QCD"], "top": ["top"]}, {"top": ["top"], "rest": ["Z", "QCD", "W"]}, {"Z": ["Z"], "W": ["W"]}]


@pytest.mark.parametrize("chosen", CHOICES)
@pytest.mark.parametrize("sort", [False, True])
def test_stores_yield_the_chosen_jets(tmp_path, monkeypatch, chosen, sort):
    monkeypatch.setattr("iagraph.data.store.PART", 7)
    jets = four_classes(50, sort)
    write_store(tmp_path / "a.h5", jets, splits={"train": 30, "test": 20})
    for split, part in (("train", jets.part(0, 30)), ("test", jets.part(30, 50)), (None, jets)):
        expected = by_hand(part, chosen)
        store = JetStore(tmp_path / "a.h5", split, classes=chosen)
        assert (len(store), store.info.classes) == (len(expected), tuple(chosen))
        found = store.read(0, len(store))
        assert_same(
            found, Jets(dict(sorted(expected.particles.items())), expected.offsets, expected.label, found.classes)
        )
        assert store.label().tolist() == expected.label.tolist()
        assert store.counts().tolist() == expected.counts.tolist()
        begin, end = len(store) // 3, len(store) // 2 + 1
        assert_same(store.read(begin, end), found.part(begin, end))
        assert len(store.read(0, 0)) == 0
        assert [len(some) for some in store.parts(4)][:-1] == [4] * ((len(store) - 1) // 4)


@pytest.mark.parametrize("chosen", CHOICES)
def test_training_from_stores_and_in_memory_see_the_same_jets(tmp_path, small_blocks, chosen):
    write_store(tmp_path / "a.h5", four_classes(61))
    stores = [JetStore(tmp_path / "a.h5", classes=chosen)]
    whole = [jet for batch in JetLoader(StoredJets(stores), 7, shuffle=True, seed=3) for jet in contents(batch)]
    expected = JetDataset(by_hand(four_classes(61), chosen))
    assert sorted(whole) == sorted(contents(expected[:]))


@pytest.mark.parametrize("chosen", CHOICES)
def test_converted_files_have_the_chosen_jets(tmp_path, chosen):
    jets = four_classes(40)
    write_store(tmp_path / "a.h5", jets.part(0, 25), splits={"train": 20, "test": 5})
    write_store(tmp_path / "b.h5", jets.part(25, 40), splits={"train": 8, "test": 7})
    seen = convert([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "out.h5", classes=chosen)
    order = [*range(20), *range(25, 33), *range(20, 25), *range(33, 40)]
    expected = by_hand(jets.take(order), chosen)
    found = read_store(tmp_path / "out.h5")
    assert_same(found, Jets(dict(sorted(expected.particles.items())), expected.offsets, expected.label, found.classes))
    assert (seen.classes, seen.jets) == (tuple(chosen), len(found))
    info = store_info(tmp_path / "out.h5")
    assert info.provenance["classes"] == chosen
    assert sum(info.splits.values()) == len(found)


def test_files_are_joined_in_common_classes(tmp_path):
    jets = four_classes(8)
    write_store(tmp_path / "a.h5", jets)
    write_store(tmp_path / "b.h5", Jets(jets.particles, jets.offsets, jets.label % 2, ("top", "QCD")))
    convert([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "out.h5", classes={"QCD": ["QCD"], "top": ["top"]})
    assert read_store(tmp_path / "out.h5").label.tolist() == [0, 1, 0, 1, *([1, 0] * 4)]


def test_existing_classes_are_kept():
    jets = four_classes(8)
    merged = by_hand(jets, {"rest": ["QCD", "W", "Z"], "top": ["top"]})
    choose = ChosenClasses({"rest": ["QCD", "W", "Z"], "top": ["top"]}, merged.classes, "a.h5")
    assert_same(choose(merged), merged)


def test_impossible_choices_are_named(tmp_path):
    write_store(tmp_path / "a.h5", four_classes(8))
    with pytest.raises(StoreError, match=r"a\.h5: no class Higgs; available: QCD, W, Z, top"):
        JetStore(tmp_path / "a.h5", classes={"Higgs": ["Higgs"], "top": ["top"]})
    with pytest.raises(StoreError, match=r"a\.h5: class W is part of two classes"):
        convert([tmp_path / "a.h5"], tmp_path / "out.h5", classes={"a": ["W"], "b": ["Z", "W"]})
    write_store(tmp_path / "b.h5", four_classes(3))
    with pytest.raises(StoreError, match=r"out\.h5: no jets of the classes top"):
        convert([tmp_path / "b.h5"], tmp_path / "out.h5", classes={"top": ["top"]})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]
