"""The top quark tagging table in the forms in which pandas itself writes it."""

import warnings

import numpy as np
import pytest
from data.conftest import assert_same
from reader_files import random_momenta, read, top_columns, write_top

from iagraph.data import StoreError
from iagraph.data.readers import open_jets

pandas = pytest.importorskip("pandas")
pytest.importorskip("tables")

COUNTS = [3, 0, 5, 1, 7, 2, 4]
LABEL = np.array([0, 1, 1, 0, 1, 0, 0])
SLOTS = 7


@pytest.fixture
def frame():
    """A frame of the published columns, with labels of a type."""
    momenta = random_momenta(COUNTS, slots=SLOTS)
    columns = top_columns(SLOTS)

    def frame(label=LABEL):
        rows = np.pad(momenta.reshape(7, 4 * SLOTS), [(0, 0), (0, 4)])
        return pandas.DataFrame(rows, columns=columns).assign(ttv=0, is_signal_new=label)

    frame.momenta = momenta
    return frame


@pytest.fixture
def written(tmp_path):
    def written(frame, key="table", mode="w", **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas and PyTables, about speed and names
            frame.to_hdf(tmp_path / "a.h5", key=key, mode=mode, **({"format": "table"} | options))
        return tmp_path / "a.h5"

    return written


@pytest.mark.parametrize("kind", [bool, np.int8, np.uint8, np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("storage", ["table", "fixed"])
def test_labels_of_any_type(tmp_path, frame, written, kind, storage):
    jets = read(open_jets(written(frame(LABEL.astype(kind)), format=storage)), 3)
    assert_same(jets, read(open_jets(write_top(tmp_path / "b.h5", frame.momenta, LABEL))))


def label_first(frame):
    return frame[["is_signal_new", *frame.columns[:-1]]]


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (None, {"data_columns": ["is_signal_new"]}),
        (None, {"data_columns": ["is_signal_new", "E_0", "PZ_3"]}),
        (None, {"data_columns": True}),
        (None, {"key": "jets"}),
        (None, {"key": "jets", "format": "fixed"}),
        (None, {"format": "fixed", "complib": "zlib", "complevel": 4}),
        (None, {"complib": "blosc", "complevel": 9}),
        (None, {"format": "fixed", "complib": "blosc", "complevel": 9}),
        (label_first, {}),
        (lambda frame: label_first(frame.astype({"is_signal_new": np.float32})), {}),
        (lambda frame: frame[sorted(frame.columns)], {}),
        (lambda frame: frame.astype({"PX_1": np.float64}), {}),
        (lambda frame: frame.assign(name="a jet"), {}),
        (lambda frame: frame.drop(columns=["ttv", "truthE"]), {"format": "fixed"}),
    ],
)
def test_other_forms_of_the_table(tmp_path, frame, written, change, options):
    if options.get("complib") == "blosc":
        pytest.importorskip("hdf5plugin")
    table = frame() if change is None else change(frame())
    jets = read(open_jets(written(table, **options)), 3)
    assert_same(jets, read(open_jets(write_top(tmp_path / "b.h5", frame.momenta, LABEL))))


@pytest.mark.parametrize("storage", ["table", "fixed"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda frame: frame.assign(is_signal_new=np.array(["QCD", "top"])[LABEL]),
            "is_signal_new holds objects or st",
        ),
        (lambda frame: frame.rename(columns={"is_signal_new": "label"}), r"has the columns .*, but no is_signal_new;"),
        (lambda frame: frame.rename(columns={"PX_1": "px1"}), r"has the columns .*, but no PX_1;"),
        (lambda frame: frame.assign(is_signal_new=2 * LABEL), "jet 1: is_signal_new = 2, expected 0 or 1"),
    ],
)
def test_differences_are_named(frame, written, storage, change, message):
    with pytest.raises(StoreError, match=rf"a\.h5: .*{message}"):
        read(open_jets(written(change(frame()), format=storage)))


def test_categories_are_refused(frame, written):
    # pandas stores alphabetical codes: QCD would happen to be 0.
    names = pandas.Categorical(np.array(["QCD", "top"])[LABEL])
    with pytest.raises(StoreError, match=r"a\.h5: column is_signal_new is a pandas category, expected numbers"):
        open_jets(written(frame(names)))


def test_several_tables_need_the_key_table(frame, written):
    other = frame()[["E_0"]]
    written(other, key="a")
    with pytest.raises(StoreError, match=r"a\.h5: has the columns E_0, but no PX_0"):
        open_jets(written(other, key="a"))
    with pytest.raises(StoreError, match=r"a\.h5: holds several tables, a, b; write the one to read with key='table'"):
        open_jets(written(frame(), key="b", mode="a"))
    assert open_jets(written(frame(), mode="a")).jets == 7
