"""Names of files as users give them, and atomic writes: a file is complete or absent."""

from __future__ import annotations

import glob
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
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
    natural order, ``part_2`` before ``part_10``. What is no pattern, or a name that exists, is taken as it is, whether
    there is such a file or not; so are samples of the package (``sample:qg``).

    Raises:
        FileNotFoundError: a pattern matches no file.
    """
    files: list[str] = []
    for pattern in patterns:
        path = str(user_path(pattern))
        if not glob.has_magic(path) or Path(path).exists():
            files.append(path)
            continue
        matches = [match for match in glob.glob(path, recursive=True) if Path(match).is_file()]  # noqa: PTH207
        if not matches:
            raise FileNotFoundError(f"{pattern}: no file matches this pattern; check the folder and the name")
        files += sorted(matches, key=_natural)
    return files


def _natural(name: str) -> list[tuple[str, int]]:
    """Texts and whole numbers in turn, by which names are sorted as people count."""
    return [(text, int(number or 0)) for text, number in re.findall(r"([^0-9]*)([0-9]*)", name)]


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
