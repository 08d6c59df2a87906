"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


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
