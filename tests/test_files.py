import os
import socket
import time

import pytest

from iagraph import files
from iagraph.files import LockedError, locked
from iagraph.train.folder import RunError, alone


@pytest.fixture(params=[True, False], ids=["flock", "no flock"])
def file_system(request, monkeypatch):
    monkeypatch.setattr(files, "_has_flock", lambda folder: request.param)


@pytest.mark.usefixtures("file_system")
def test_one_process_at_a_time_and_the_other_learns_which(tmp_path):
    lock = tmp_path / ".lock"
    with locked(lock):
        me = rf"^process {os.getpid()} on {socket.gethostname()}, for 0:00:0\d; .* remove {lock}$"
        with pytest.raises(LockedError, match=me), locked(lock):
            pytest.fail("two at a time")
    with locked(lock):
        pass


def test_what_a_process_killed_on_another_machine_left_can_be_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_has_flock", lambda folder: False)
    lock = tmp_path / ".lock"
    lock.write_text("4242\nnode7\n")
    os.utime(lock, (time.time() - 8000,) * 2)
    found = (
        r"another process works here: process 4242 on node7, for 2:13:2\d; .* If there is no such process any more, "
    )
    with pytest.raises(RunError, match=f"^{tmp_path}: {found}remove {lock}$"), alone(tmp_path):
        pytest.fail("two at a time")
    lock.unlink()
    with alone(tmp_path):
        assert lock.exists()
    assert not lock.exists()


def test_who_waits_is_told_for_whom(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_has_flock", lambda folder: False)
    lock = tmp_path / ".lock"
    lock.write_text("4242\nnode7\n")
    told = []
    with locked(lock, lambda holder: (told.append(holder), lock.unlink())):
        assert told[0].startswith("process 4242 on node7, for ")


def test_flock_is_tried(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    assert files._has_flock(tmp_path)

    def refused(file, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    assert not files._has_flock(tmp_path)
