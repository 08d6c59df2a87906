"""Files that are there whole or not at all, whatever happens while they are written, and locks on them."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO


class LockedError(RuntimeError):
    """Another process holds a lock. The message says which file, whose and since when, and what to do."""


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to be written in place of another: it takes its place, on disk, when the block ends without an error.

    Args:
        path: the file; its folder must exist.

    Raises:
        OSError: it cannot be written; an older file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):  # there is nothing to remove if all went well
            temporary.unlink()


def remove_unfinished(folder: Path) -> None:
    """Removes what killed processes left of such files in a folder and those in it; no process may write there now."""
    for path in folder.rglob(".*.tmp"):
        path.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a text in UTF-8 as :func:`replaced` does.

    Raises:
        OSError: it cannot be written; an older file is as it was.
    """
    with replaced(path) as file:
        file.write(text.encode())


@contextmanager
def locked(path: Path, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Keeps out other processes that want the same lock file.

    The system ends the lock of a killed process. Where a file system has no ``flock`` (Lustre and NFS, depending on how
    they are mounted), the lock is that the file exists, and a process that was killed on another machine leaves it.

    Args:
        path: the lock file; its folder must exist.
        wait: called with who holds the lock before waiting for it; None does not wait.

    Raises:
        LockedError: another process holds it.
        OSError: the file cannot be made.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    has_flock = _has_flock(path.parent)
    lock = FileLock(path) if has_flock else SoftFileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = f"{_holder(path)}; wait for it, or end it. If there is no such process any more, remove {path}"
        if wait is None:
            raise LockedError(holder) from None
        wait(holder)
        lock.acquire()
    try:
        if has_flock or not path.stat().st_size:  # a SoftFileLock writes the same into it, old ones nothing
            path.write_text(f"{os.getpid()}\n{socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        lock.release()


def _has_flock(folder: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows, which has locks of its own
        return True
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _holder(path: Path) -> str:
    """Who holds a lock, as far as its file tells, and for how long."""
    try:
        age, lines = time.time() - path.stat().st_mtime, path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "which ends just now"
    who = f"process {lines[0]} on {lines[1]}" if len(lines) > 1 else "one that left no name"
    return f"{who}, for {timedelta(seconds=max(0, round(age)))}"
