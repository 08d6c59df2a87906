"""Files are closed after reading, and errors of the operating system are reported as such."""

import errno
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from data.conftest import assert_same, numbered_jets
from reader_files import random_momenta, write_jetclass, write_top

from iagraph.data import (
    JetLoader,
    Jets,
    JetStore,
    StoredJets,
    StoreError,
    open_jets,
    read_store,
    store_info,
    write_store,
)
from iagraph.data.convert import convert
from iagraph.files import explain_os_error

DESCRIPTORS = Path("/proc/self/fd")


def open_files(folder):
    """The open files of this process in a folder."""
    if not DESCRIPTORS.is_dir():
        pytest.skip("needs /proc, as Linux has it")
    names = [str(link.readlink()) for link in DESCRIPTORS.iterdir() if link.is_symlink()]
    return [name for name in names if name.startswith(str(folder))]


@contextmanager
def limit_of_open_files(more):
    """Limit the number of files that may be opened in addition."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as lowest:  # noqa: PTH123
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def photons(path, momenta, label):
    """An EnergyFlow file."""
    values = np.abs(np.tanh(momenta[..., :3])), 22 * (momenta[..., :1] > 0)  # pt, rapidity, phi, pid
    with path.open("wb") as file:
        np.savez(file, X=np.concatenate(values, axis=2), y=label)


def store(path, momenta, label):
    write_store(path, numbered_jets([2] * len(label)))


@pytest.mark.parametrize("write", [write_top, photons, write_jetclass, store])
def test_readers_close_their_files(tmp_path, write):
    write(tmp_path / "jets", random_momenta([2, 3, 1]), [0, 1, 0])
    reader = open_jets(tmp_path / "jets")
    assert open_files(tmp_path) == []
    parts = reader.parts(1)
    next(parts)
    assert open_files(tmp_path)
    assert len(list(parts)) == 2
    assert open_files(tmp_path) == []
    abandoned = reader.parts(1)
    next(abandoned)
    abandoned.close()
    assert open_files(tmp_path) == []


def test_fully_read_stores_are_closed(tmp_path):
    write_store(tmp_path / "a.h5", numbered_jets([2, 3]))
    jets, info = read_store(tmp_path / "a.h5"), store_info(tmp_path / "a.h5")
    assert (len(jets), info.jets, open_files(tmp_path)) == (2, 2, [])
    store = JetStore(tmp_path / "a.h5")
    assert store.label().tolist() == [0, 1]
    store.close()
    assert open_files(tmp_path) == []
    assert_same(store.read(0, 2), jets)  # it opens again
    store.close()
    store.close()


def test_more_stores_than_open_files_are_supported(tmp_path, monkeypatch):
    monkeypatch.setattr("iagraph.data.store.OPEN", 16)
    jets = numbered_jets([1, 2] * 60)
    files = [tmp_path / f"{number}.h5" for number in range(60)]
    for number, file in enumerate(files):
        write_store(file, jets.part(2 * number, 2 * number + 2))
    with limit_of_open_files(32):
        convert(files, tmp_path / "all.h5")
        assert open_files(tmp_path) == []
        stored = StoredJets([JetStore(file) for file in files])
        seen = [len(batch) for batch in JetLoader(stored, 7, shuffle=True)]
        assert len(open_files(tmp_path)) == 16
        assert (sum(seen), stored.label.tolist()) == (120, [0, 1] * 60)
    assert_same(read_store(tmp_path / "all.h5"), Jets.concatenate(list(map(read_store, files))))
    del stored
    assert open_files(tmp_path) == []


READ = {"open_jets": open_jets, "store_info": store_info, "read_store": read_store}


@pytest.mark.parametrize("read", READ.values(), ids=READ)
def test_store_being_written_is_locked_not_damaged(tmp_path, read):
    write_store(tmp_path / "a.h5", numbered_jets([2, 3]))
    holds = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holds, tmp_path / "a.h5"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(StoreError, match=r"a\.h5: cannot be read \(another process has it open .*HDF5_USE_FILE"):
            read(tmp_path / "a.h5")
        process.stdin.close()


def test_too_many_open_files_are_reported(tmp_path):
    write_top(tmp_path / "a.h5", random_momenta([2, 3]), [0, 1])
    with h5py.File(tmp_path / "a.h5") as file:
        assert len(file["table/table"]) == 2
    with (
        limit_of_open_files(0),
        pytest.raises(StoreError, match=r"cannot be read .*; .*ulimit -n"),
    ):
        open_jets(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("Can't open (unable to lock file, errno = 37, error message = 'No locks available')"), "no locks"),
        (OSError(f"Unable to open (unable to lock file, errno = {errno.ENOSYS}, error"), "HDF5_USE_FILE_LOCKING=FALSE"),
        (OSError(f"unable to lock file, errno = {errno.EACCES}, error"), "another process"),
        (BlockingIOError(errno.EAGAIN, "unable to lock file, errno = 11"), "another process"),
        (OSError(errno.EMFILE, "Too many"), "ulimit -n"),
        (OSError("Can't read data (file read failed: errno = 5, error message = 'Input/output error')"), "try again"),
        (OSError(errno.ESTALE, "x"), "try again"),
        (PermissionError(errno.EACCES, "x"), "check permissions"),
        (OSError(errno.ENOSPC, "x"), "free some space"),
        (OSError("unable to open file (file is already open for write (may use <h5clear file>)"), "h5clear"),
        (MemoryError("1 PiB"), "not enough memory"),
    ],
)
def test_system_errors_come_with_advice(error, told):
    assert told in explain_os_error(error)


@pytest.mark.parametrize(
    "error",
    [
        OSError("Unable to open file (truncated file: eof = 96, sblock->base_addr = 0, stored_eof = 2048)"),
        OSError(errno.EINVAL, "Invalid argument"),  # a seek to where a damaged file points
        ValueError("errno = 24"),
        KeyError("jets"),
    ],
)
def test_damage_is_not_reported_as_a_system_error(error):
    assert explain_os_error(error) is None
