"""User paths, explanations of operating system errors, atomic writes (complete or absent), and locks."""

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
    """A path with a leading ``~`` or ``~user`` expanded."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user, so the name is literal
        return Path(text)


RECIPES = Path(__file__).parent / "recipes"
"""Folder of the recipes that come with the package; in a clone, a link to ``configs/``."""


PRETRAINED = Path(__file__).parent / "pretrained"
"""Folder of the trained models that come with the package: run folders with a card, without logs and figures."""


def run_path(text: str | Path) -> Path:
    """The run folder or file that a user means; ``pretrained:NAME`` is a trained model that comes with the package.

    Raises:
        FileNotFoundError: the package has no model of this name.
    """
    kind, colon, name = str(text).partition(":")
    if not (kind == "pretrained" and colon):
        return user_path(text)
    names = sorted(card.parent.name for card in PRETRAINED.glob("*/README.md"))
    if name not in names:
        raise FileNotFoundError(f"{text}: no such model; there are {', '.join(f'{kind}:{each}' for each in names)}")
    return PRETRAINED / name


def recipe_file(name: str | Path, folder: Path | None = None) -> Path:
    """The recipe that a user means: a file, or one that comes with the package, such as ``qg``.

    Args:
        name: path or name; an existing file takes precedence over a packaged recipe.
        folder: folder that relative paths start from; None for the working directory.
    """
    path = user_path(name) if folder is None else folder / user_path(name)
    packaged = RECIPES / f"{name}.yaml"
    return packaged if str(name).isidentifier() and packaged.is_file() and not path.is_file() else path


def user_files(patterns: Iterable[str | Path]) -> list[str]:
    """The files given by names and patterns such as ``~/jets/part_*.h5``.

    ``*``, ``?`` and ``[...]`` match as in a shell, ``**`` any number of folders. The files of a pattern come in natural
    order, ``part_2`` before ``part_10``. An existing path is never taken as a pattern. Other names are returned
    unchanged, whether they exist or not, as are bundled samples (``sample:qg``).

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
        if not matches and not set("*?") & set(path):  # a name with brackets, perhaps on another machine
            matches = [path]
        if not matches:
            raise FileNotFoundError(f"{pattern}: no file matches this pattern; check the folder and the name")
        files += sorted(matches, key=_natural)
    return files


_LOCKED = (
    "another process has it open for writing",
    "close it there (for example in a notebook); if nothing is being written, set HDF5_USE_FILE_LOCKING=FALSE",
)
_NO_LOCKS = ("the file system has no locks", "set the environment variable HDF5_USE_FILE_LOCKING=FALSE")
_CURES = {
    "raise the limit of open files (ulimit -n 4096), or use fewer files at once": "EMFILE",
    "too many open files on this machine: close some": "ENFILE",
    "check permissions": "EACCES EPERM",
    "check the mount options, or write elsewhere": "EROFS",
    "free some space, or write elsewhere": "ENOSPC EDQUOT",
    "free some memory, or use another machine": "ENOMEM",
    "check folder and name": "ENOENT ENOTDIR EISDIR",
    "choose a shorter name": "ENAMETOOLONG",
    "the disk or network does not respond: try again, then check it": "EIO ESTALE ETIMEDOUT ENOTCONN ECONNRESET "
    "EHOSTDOWN EHOSTUNREACH",
}
_ERRORS: dict[int, tuple[str | None, str]] = {
    errno.EAGAIN: _LOCKED,
    errno.EWOULDBLOCK: _LOCKED,
    errno.ENOLCK: _NO_LOCKS,
    **{getattr(errno, name): (None, cure) for cure, names in _CURES.items() for name in names.split()},
}


def explain_os_error(error: BaseException) -> str | None:
    """Why the operating system cannot read or write a file, and what to do: ``(reason); cure``.

    HDF5 states the system's error number only in its message; this number tells its locking failures apart.

    Returns:
        The text; None if this is not a known system error, so the content of the file may be wrong.
    """
    if isinstance(error, MemoryError):
        return f"(not enough memory: {error}); if the file is small, it is damaged: copy it again"
    if not isinstance(error, OSError):
        return None
    if "h5clear" in str(error):
        return "(not closed by its writing process); wait for it, or if it died: h5clear -s FILE"
    stated = re.search(r"errno = (\d+)", str(error))
    number = int(stated[1]) if stated else error.errno
    if number is None:
        return None
    reason_cure = _ERRORS.get(number)
    if "unable to lock file" in str(error):
        reason_cure = _LOCKED if number in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES) else _NO_LOCKS
    return None if reason_cure is None else f"({reason_cure[0] or os.strerror(number)}); {reason_cure[1]}"


def _natural(name: str) -> list[tuple[str, int]]:
    """Sort key for natural order: alternating texts and integers."""
    return [(text, int(number or 0)) for text, number in re.findall(r"([^0-9]*)([0-9]*)", name)]


class LockedError(RuntimeError):
    """Another process holds a lock. The message says who holds it, for how long, and what to do."""


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Atomic write: a file that replaces ``path`` on disk when the block ends without an error.

    Args:
        path: the file; its folder must exist.

    Raises:
        OSError: it cannot be written; an older file is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with _naming(path):
        file = temporary.open("xb")
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with _naming(path):
            temporary.replace(path)
    finally:
        with suppress(OSError):  # nothing to remove on success
            temporary.unlink()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let errors name this file instead of a temporary one."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from error


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files of killed processes, recursively; no process may be writing there."""
    for path in folder.rglob(".*.tmp"):
        path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8 atomically, see :func:`replaced`.

    Raises:
        OSError: it cannot be written; an older file is unchanged.
    """
    with replaced(path) as file:
        file.write(text.encode())


@contextmanager
def locked(path: Path, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Context that excludes other processes that use the same lock file.

    The system releases the lock of a killed process. On file systems without ``flock`` (Lustre and NFS, depending on
    mount options) the existence of the file is the lock, and a process killed on another machine leaves it behind.

    Args:
        path: the lock file; its folder must exist.
        wait: called with a description of the holder before waiting; None to raise instead of waiting.

    Raises:
        LockedError: another process holds the lock, and ``wait`` is None.
        OSError: the file cannot be created.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    has_flock = _has_flock(path.parent)
    lock = FileLock(path) if has_flock else SoftFileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = f"{_holder(path)}; wait for it, or end it. If that process no longer exists, remove {path}"
        if wait is None:
            raise LockedError(holder) from None
        wait(holder)
        lock.acquire()
    try:
        if has_flock or not path.stat().st_size:  # SoftFileLock writes this itself, except in old versions
            path.write_text(f"{os.getpid()}\n{socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        lock.release()


def _has_flock(folder: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows has its own locks
        return True
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _holder(path: Path) -> str:
    """Who holds a lock, as recorded in its file, and for how long."""
    try:
        age, lines = time.time() - path.stat().st_mtime, path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "which is just ending"
    who = f"process {lines[0]} on {lines[1]}" if len(lines) > 1 else "an unnamed one"
    return f"{who}, for {timedelta(seconds=max(0, round(age)))}"
