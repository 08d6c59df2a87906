import hashlib
import shutil
import sys
import tarfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from reader_files import momenta_of, random_momenta, write_jetclass, write_top
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose

import iagraph.data
from iagraph.data import JetClass, JetLoader, QuarkGluon, StoreError, TopTagging, open_jets, records
from iagraph.data.download import DownloadError
from iagraph.data.records import ZenodoFile
from iagraph.transforms import FullyConnected, NodeFeatures, PairFeatures


@contextmanager
def server(folder):
    """Serves the files of a folder as Zenodo does; yields its address and the paths that were asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = (folder / self.path.split("/")[-2]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{http.server_port}", asked
        finally:
            http.shutdown()


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Small files in the published layouts."""
    folder = tmp_path_factory.mktemp("published")
    rng = np.random.default_rng(2)

    def momenta(jets, seed):
        return random_momenta(np.random.default_rng(seed).integers(1, 8, jets), seed, slots=9)

    for seed, (name, jets) in enumerate({"train.h5": 11, "val.h5": 5, "test.h5": 7}.items()):
        write_top(folder / name, momenta(jets, seed), rng.integers(0, 2, jets))
    for number in range(20):
        X = np.zeros((3, 4 + number % 3, 4))
        X[:, :2] = [[50.0 + number, 0.3, 1.0, 22], [20, -0.2, 0.5, -211]]
        np.savez(folder / f"QG_{number}.npz", X=X, y=np.array([number % 2, 1, 0]))
    for part in ("val", "train_0", "train_1"):
        with tarfile.open(folder / f"{part}.tar", "w") as archive:
            for label in (0, 8):
                write_jetclass(folder / f"{part}_{label}.root", momenta(3 + label, label), np.full(3 + label, label))
                archive.add(folder / f"{part}_{label}.root", f"JetClass/{part}/{label}.root")
    return folder


@pytest.fixture
def published(originals, tmp_path, monkeypatch):
    """A server in place of Zenodo; yields the folder that it serves and the requested paths."""
    folder = shutil.copytree(originals, tmp_path / "published")

    def known(name):
        return ZenodoFile(7, name, "md5:" + hashlib.md5((folder / name).read_bytes()).hexdigest())

    monkeypatch.setattr(records, "TOP", {part: (known(f"{part}.h5"),) for part in ("train", "val", "test")})
    monkeypatch.setattr(records, "QUARK_GLUON", {"pythia": tuple(known(f"QG_{k}.npz") for k in range(20))})
    archives = {"val_5M": (known("val.tar"),), "train_100M": (known("train_0.tar"), known("train_1.tar"))}
    monkeypatch.setattr(records, "JETCLASS", archives)
    monkeypatch.setattr("iagraph.data.download.PAUSES", ())
    with server(folder) as (address, asked):
        monkeypatch.setattr(records, "ZENODO", address)
        yield folder, asked


def test_top_tagging_is_downloaded_and_converted_once(published, tmp_path):
    folder, asked = published
    sizes = {split: len(TopTagging(tmp_path / "top", split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 11, "val": 5, "test": 7}
    assert len(asked) == 3
    for path in (tmp_path / "top" / "raw").iterdir():
        path.unlink()  # converted files are no longer needed
    dataset = TopTagging(tmp_path / "top", "test")
    assert len(asked) == 3
    expected = next(open_jets(folder / "test.h5").parts())
    for number, data in enumerate(dataset):
        begin, end = expected.offsets[number : number + 2]
        assert data.pt.tolist() == expected.particles["pt"][begin:end].tolist()
        assert data.y.tolist() == [expected.label[number]]
    assert (dataset.classes, dataset.num_classes) == (("QCD", "top"), 2)
    assert {path.name for path in (tmp_path / "top" / "processed").iterdir()} == {"top_tagging.h5"}


def test_quark_gluon_files_give_the_recommended_splits(published, tmp_path):
    sizes = {split: len(QuarkGluon(tmp_path / "qg", split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 48, "val": 6, "test": 6}
    val = QuarkGluon(tmp_path / "qg", "val")
    assert [data.pt[0].item() for data in val] == [66, 66, 66, 67, 67, 67]
    assert val[0].pid.tolist() == [22, -211]
    assert val.classes == ("gluon", "quark")
    before = val.stores[0].stat().st_mtime_ns
    assert len(QuarkGluon(tmp_path / "qg", "val", force_reload=True)) == 6
    assert val.stores[0].stat().st_mtime_ns > before


def test_jetclass_archives_become_stores_with_all_columns(published, tmp_path):
    folder, _ = published
    val, train = JetClass(tmp_path / "jc", "val"), JetClass(tmp_path / "jc", "train")
    assert (len(val), len(train), len(train.stores)) == (14, 28, 2)
    assert val.num_classes == 10
    assert sorted({int(data.y) for data in train}) == [0, 8]
    assert {"pid", "d0", "d0_error", "dz", "dz_error"} <= set(train[0].keys())
    whole = [next(open_jets(folder / f"val_{label}.root").parts()) for label in (0, 8)]
    expected = np.concatenate([momenta_of(jets) for jets in whole])
    batch = val.jets()[:]
    cartesian = torch.stack([batch.momenta.pt * torch.cos(batch.momenta.phi)]).numpy()
    np.testing.assert_allclose(cartesian[0], expected[:, 1], rtol=1e-5)


def test_converted_archives_are_not_converted_again(published, tmp_path):
    first = JetClass(tmp_path / "jc", "train").stores
    first[1].unlink()
    for archive in (tmp_path / "jc" / "raw").iterdir():
        archive.unlink()
    before, asked = first[0].stat().st_mtime_ns, published[1]
    asked.clear()
    assert len(JetClass(tmp_path / "jc", "train")) == 28
    assert first[0].stat().st_mtime_ns == before
    assert len(asked) == 1
    assert "train_1.tar" in asked[0]
    assert len(JetClass(tmp_path / "jc", "train", force_reload=True)) == 28
    assert first[0].stat().st_mtime_ns > before


def test_items_pass_through_transforms_and_loaders(published, tmp_path):
    to_graph = Compose([FullyConnected(), NodeFeatures("kin"), PairFeatures("invariant")])
    dataset = TopTagging(tmp_path / "top", "train", transform=to_graph)
    sizes = [data.num_nodes for data in dataset]
    assert [data.edge_index.size(1) for data in dataset] == [n * n for n in sizes]
    assert [batch.num_graphs for batch in DataLoader(dataset, batch_size=4)] == [4, 4, 3]
    assert [data.num_nodes for data in dataset[3:5]] == sizes[3:5]
    batches = list(JetLoader(dataset.jets(max_particles=2), 4))
    assert [len(batch) for batch in batches] == [4, 4, 3]
    assert torch.cat([batch.ptr.diff() for batch in batches]).tolist() == [min(n, 2) for n in sizes]


def test_wrong_checksums_are_refused(published, tmp_path):
    folder, _ = published
    (folder / "val.h5").write_bytes((folder / "train.h5").read_bytes())
    with pytest.raises(DownloadError, match=r"val\.h5"):
        TopTagging(tmp_path / "top")
    assert list((tmp_path / "top").rglob("*.h5")) == [tmp_path / "top" / "raw" / "train.h5"]
    write_top(folder / "val.h5", random_momenta([2, 3, 4]), [0, 1, 1])
    records.TOP["val"] = (
        records.TOP["val"][0]._replace(checksum="md5:" + hashlib.md5((folder / "val.h5").read_bytes()).hexdigest()),
    )
    assert len(TopTagging(tmp_path / "top", "val")) == 3


@pytest.mark.parametrize("member", [0, 1])
def test_an_incomplete_archive_leaves_no_store(published, tmp_path, member):
    raw = tmp_path / "jc" / "raw"
    raw.mkdir(parents=True)
    with tarfile.open(published[0] / "val.tar") as archive:
        end = archive.getmembers()[1].offset  # without its second file, the archive would still be a valid one
    (raw / "val.tar").write_bytes((published[0] / "val.tar").read_bytes()[: end if member else 700])
    with pytest.raises(DownloadError, match=r"val\.tar: checksum is .*delete it and download it again"):
        JetClass(tmp_path / "jc", "val")
    assert list((tmp_path / "jc" / "processed").iterdir()) == []


def test_damaged_archive_leaves_no_store(published, tmp_path):
    folder, _ = published
    content = (folder / "val.tar").read_bytes()[:10245]
    (folder / "val.tar").write_bytes(content)
    records.JETCLASS["val_5M"] = (ZenodoFile(7, "val.tar", "md5:" + hashlib.md5(content).hexdigest()),)
    with pytest.raises(StoreError, match=r"val\.tar: incomplete or damaged"):
        JetClass(tmp_path / "jc", "val")
    assert list((tmp_path / "jc" / "processed").iterdir()) == []


def test_every_data_set_has_a_card(published, tmp_path):
    for dataset in (TopTagging(tmp_path / "a", "val"), QuarkGluon(tmp_path / "b"), JetClass(tmp_path / "c", "val")):
        card = dataset.card()
        assert dataset.published()[0].name
        for word in (*dataset.classes, "CC BY 4.0", "[GeV]", "zenodo.", "arXiv"):
            assert word in card


def test_unknown_splits_are_refused():
    with pytest.raises(ValueError, match="train, val, test"):
        TopTagging("nowhere", "valid")
    with pytest.raises(ValueError, match="pythia or herwig"):
        QuarkGluon("nowhere", generator="sherpa")


def test_missing_packages_are_named(monkeypatch):
    for name in ("datasets", "convert"):  # so that it is imported again
        monkeypatch.delitem(sys.modules, f"iagraph.data.{name}")
    monkeypatch.delattr(iagraph.data, "datasets")
    monkeypatch.setitem(sys.modules, "iagraph.data.overview", None)
    with pytest.raises(ImportError, match=r"TopTagging needs more packages .*pip install 'iagraph\[data\]'"):
        iagraph.data.TopTagging  # noqa: B018
