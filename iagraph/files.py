"""Names of files as users give them, what the system says of them, atomic writes (complete or absent), and locks."""

from __future__ import annotations

import errno
import glob
import os
import re
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO


def user_path(text: str | Path) -> Path:
    """The path that a user means: ``~`` and ``~user`` at its beginning are home folders, the rest is left as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user, so it is a name
        return Path(text)


def user_files(patterns: Iterable[str | Path]) -> list[str]:
    """The files that a user means by names and patterns such as ``~/jets/part_*.h5``.

    ``*``, ``?`` and ``[...]`` match as in a shell, ``**`` any number of folders. The files of one pattern come in
    natural order, ``part_2`` before ``part_10``. A name that exists is no pattern. What is none is taken as it is,
    whether there is such a file or not; so are samples of the package (``sample:qg``).

    Raises:
        FileNotFoundError: a pattern with ``*`` or ``?`` matches no file.
    """
    files: list[str] = []
    for pattern in patterns:
        path = str(user_path(pattern)) if str(pattern).startswith("~") else str(pattern)
        if not glob.has_magic(path) or Path(path).exists():
            files.append(path)
            continue
        matches = [match for match in glob.glob(path, recursive=True) if Path(match).is_file()]  # noqa: PTH207
        if not matches and not set("*?") & set(path):  # a name with brackets, perhaps of another machine
            matches = [path]
        if not matches:
            raise FileNotFoundError(f"{pattern}: no file matches this pattern; check the folder and the name")
        files += sorted(matches, key=_natural)
    return files


_ANSWER = (None, "the disk or the network does not answer: try again, and check it if that fails, too")
_LOCKED = (
    "another process has it open for writing",
    "close it there (a notebook, say); if nothing is being written, set HDF5_USE_FILE_LOCKING=FALSE",
)
_NO_LOCKS = ("the file system has no locks", "set the environment variable HDF5_USE_FILE_LOCKING=FALSE")
_ROOM = (None, "make free space, or write elsewhere")
_ERRORS: dict[int, tuple[str | None, str]] = {
    errno.EAGAIN: _LOCKED,
    errno.EWOULDBLOCK: _LOCKED,
    errno.ENOLCK: _NO_LOCKS,
    errno.EMFILE: (None, "raise the limit of open files of a process (ulimit -n 4096), or name fewer files at once"),
    errno.ENFILE: (None, "all processes of this machine together have too many files open: close some"),
    errno.EACCES: (None, "check permissions"),
    errno.EPERM: (None, "check permissions"),
    errno.EROFS: (None, "check how the file system is mounted, or write elsewhere"),
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.ENOMEM: (None, "free some memory, or use another machine"),
    errno.ENOENT: (None, "check folder and name"),
    errno.ENOTDIR: (None, "check folder and name"),
    errno.EISDIR: (None, "check folder and name"),
    errno.ENAMETOOLONG: (None, "choose a shorter name"),
}
_ERRORS |= dict.fromkeys(
    (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    _ANSWER,
)


def explain_os_error(error: BaseException) -> str | None:
    """Why the operating system cannot read or write a file, and what to do: ``(reason); cure``.

    HDF5 states the system's error number in its message only; its locks fail with numbers of their own.

    Returns:
        The text; None if the error is not the system's, so the content of the file may be wrong.
    """
    if isinstance(error, MemoryError):
        return f"(not enough memory: {error}); if the file should need little, it is damaged: copy it anew"
    if not isinstance(error, OSError):
        return None
    if "h5clear" in str(error):
        return "(a process that wrote it did not close it); wait for it, or if it died: h5clear -s FILE"
    stated = re.search(r"errno = (\d+)", str(error))
    number = int(stated[1]) if stated else error.errno
    if number is None:
        return None
    told = _ERRORS.get(number)
    if "unable to lock file" in str(error):
        told = _LOCKED if number in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES) else _NO_LOCKS
    return None if told is None else f"({told[0] or os.strerror(number)}); {told[1]}"


def _natural(name: str) -> list[tuple[str, int]]:
    """Texts and whole numbers in turn, by which names are sorted as people count."""
    return [(text, int(number or 0)) for text, number in re.findall(r"([^0-9]*)([0-9]*)", name)]


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
