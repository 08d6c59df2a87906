import os
import socket
import time
from pathlib import Path

import pytest

from iagraph import files
from iagraph.files import LockedError, locked, replaced, user_files, user_path
from iagraph.train.folder import RunError, alone


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_home_folders_are_expanded(home):
    assert user_path("~") == home
    assert user_path("~/runs/a") == home / "runs/a"
    assert user_path(Path("~/runs")) == home / "runs"
    assert user_path("~root") == Path("~root").expanduser() != Path("~root")
    for name in ("runs/~/a", "a~", "~nobody-of-this-name/a", "/b", "sample:qg", "$HOME/a"):
        assert user_path(name) == Path(name)


def test_patterns_become_files_in_natural_order(home):
    names = ["part_10.h5", "part_2.h5", "part_1.h5", "other.txt", "deep/er/part_3.h5"]
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    (home / "part_0.h5").mkdir()  # a folder is not a file
    found = [str(home / f"part_{number}.h5") for number in (1, 2, 10)]
    assert user_files(["~/part_*.h5"]) == found
    assert user_files(["~/part_[12].h5", "~/other.txt"]) == [*found[:2], str(home / "other.txt")]
    assert user_files([home / "**" / "part_?.h5"]) == [str(home / "deep/er/part_3.h5"), *found[:2]]


def test_plain_names_are_unchanged(home):
    (home / "jets[1].h5").touch()
    for name in ("sample:qg", "missing.h5", "./missing.h5", "missing[1].h5"):
        assert user_files([name]) == [name]
    assert user_files(["~/jets[1].h5"]) == [f"{home}/jets[1].h5"]


def test_patterns_without_files_are_named(home):
    with pytest.raises(FileNotFoundError, match=r"^~/none_\*\.h5: no file matches"):
        user_files(["~/none_*.h5"])


def test_errors_name_the_file_that_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    for path, kind in ((tmp_path / "folder", IsADirectoryError), (tmp_path / "gone" / "a", FileNotFoundError)):
        with pytest.raises(kind) as raised, replaced(path) as file:
            file.write(b"lost")
        assert raised.value.filename == str(path)
    assert list(tmp_path.rglob("*")) == [tmp_path / "folder"]


@pytest.fixture(params=[True, False], ids=["flock", "no flock"])
def file_system(request, monkeypatch):
    monkeypatch.setattr(files, "_has_flock", lambda folder: request.param)


@pytest.mark.usefixtures("file_system")
def test_lock_admits_one_process_and_names_it(tmp_path):
    lock = tmp_path / ".lock"
    with locked(lock):
        me = rf"^process {os.getpid()} on {socket.gethostname()}, for 0:00:0\d; .* remove {lock}$"
        with pytest.raises(LockedError, match=me), locked(lock):
            pytest.fail("two at a time")
    with locked(lock):
        pass


def test_stale_lock_of_another_machine_can_be_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_has_flock", lambda folder: False)
    lock = tmp_path / ".lock"
    lock.write_text("4242\nnode7\n")
    os.utime(lock, (time.time() - 8000,) * 2)
    found = r"another process works here: process 4242 on node7, for 2:13:2\d; .* If that process no longer exists, "
    with pytest.raises(RunError, match=f"^{tmp_path}: {found}remove {lock}$"), alone(tmp_path):
        pytest.fail("two at a time")
    lock.unlink()
    with alone(tmp_path):
        assert lock.exists()
    assert not lock.exists()


def test_waiting_process_is_told_the_holder(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_has_flock", lambda folder: False)
    lock = tmp_path / ".lock"
    lock.write_text("4242\nnode7\n")
    told = []
    with locked(lock, lambda holder: (told.append(holder), lock.unlink())):
        assert told[0].startswith("process 4242 on node7, for ")


def test_flock_is_used_if_available(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    assert files._has_flock(tmp_path)

    def refused(file, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    assert not files._has_flock(tmp_path)
