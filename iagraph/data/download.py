"""Downloads of large published files: resumable, verified before they get their final name.

Received bytes go to ``NAME.part`` next to the file, which is renamed once its checksum matches. After a broken
connection, Ctrl-C or a killed process, the next attempt requests only the missing bytes (HTTP Range). The checksum
shows whether the bytes belong together, so no ETag is kept; Zenodo does not always send one. For an existing file only
the size is compared, if known: hashing gigabytes at each start would take minutes, and files from this module were
verified. ``verify`` checks a file from elsewhere.
"""

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import sleep
from typing import Any
from urllib.parse import urlsplit

from iagraph.data.records import ZenodoFile
from iagraph.files import locked, user_path

try:
    import filelock  # noqa: F401, iagraph.files needs it
    import requests
    from tqdm import tqdm
except ImportError as error:
    raise ImportError(f"downloading needs {error.name}: pip install 'iagraph[data]'") from error

TIMEOUT = (10.0, 60.0)  # seconds: to connect, and between bytes
PAUSES = (1.0, 3.0, 10.0, 30.0, 60.0)  # seconds before each retry; restarted after progress
LONGEST_PAUSE = 300.0  # seconds; give up if the server requests a longer one; Zenodo limits requests per minute
PIECE = 16384  # bytes per write: an interruption loses less than this
LOCAL = ("127.0.0.1", "localhost", "::1")  # plain http is allowed here only
COMPLETE = 416  # "range not satisfiable": no bytes beyond those held
TRANSIENT = (408, 425, 429)  # HTTP errors worth a retry, besides 500 and above


class DownloadError(RuntimeError):
    """A file cannot be downloaded, or is not the published one; the message says what to do."""


class _RefusedError(Exception):
    """A response that a retry would not change."""


class _BrokenError(Exception):
    """A transient failure; ``pause`` is the wait the server requests, in seconds."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


def fetch(file: ZenodoFile, folder: str | Path) -> Path:
    """Path of a published file in this folder, downloaded if missing; see ``download``."""
    return download(file.url, user_path(folder) / file.name, checksum=file.checksum, size=file.size)


def download(url: str, path: str | Path, *, checksum: str, size: int | None = None) -> Path:
    """Download one file unless it exists; safe when several processes request the same file.

    Args:
        url: its address; https, except on this machine.
        path: where to put it; missing folders are created.
        checksum: algorithm and hexadecimal digest, for example "md5:0cc1...".
        size: its size in bytes, if known.

    Returns:
        ``path``.

    Raises:
        DownloadError: it cannot be downloaded, or is not the expected file. Usable bytes are kept.
    """
    path = user_path(path)
    part = path.with_name(f"{path.name}.part")
    try:
        if _is_there(path, size):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            if not _is_there(path, size):  # another process may have finished meanwhile
                _receive(url, part, size)
                _finish(url, part, path, checksum)
    except (_BrokenError, _RefusedError) as error:
        advice = f"received bytes are kept: try again later, or download it by hand to {path}"
        raise DownloadError(f"{url}: {error}; {advice}") from error
    except OSError as error:
        reason = f"cannot write ({error.strerror or error}); check folder, permissions and free space"
        raise DownloadError(f"{path}: {reason}. Received bytes of {url} are kept; the next attempt resumes") from error
    return path


def verify(path: str | Path, checksum: str) -> None:
    """Compare a file with its checksum, "md5:..." or "sha256:...".

    Raises:
        DownloadError: they differ.
    """
    path = user_path(path)
    algorithm = checksum.partition(":")[0]
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with (
        path.open("rb") as file,
        tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=f"checking {path.name}", leave=False) as bar,
    ):
        while piece := file.read(64 * PIECE):
            digest.update(piece)
            bar.update(len(piece))
    if f"{algorithm}:{digest.hexdigest()}" != checksum:
        raise DownloadError(
            f"{path}: checksum is {algorithm}:{digest.hexdigest()}, expected {checksum}: damaged, or not the published "
            "file; delete it and download it again"
        )


def _is_there(path: Path, size: int | None) -> bool:
    if not path.exists():
        return False
    if not path.is_file():
        raise DownloadError(f"{path}: not a file; remove it, or choose another folder")
    if size not in (None, found := path.stat().st_size):
        raise DownloadError(f"{path}: has {found} bytes, expected {size}; delete it to download it again")
    return True


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Exclude other processes from a file: if two wrote to its ``part``, only the final checksum would show it."""
    name = path.with_name(f".{path.name}.lock")
    waiting = f"{path}: another process is downloading it; waiting"
    with locked(name, lambda holder: tqdm.write(f"{waiting} ({holder})", file=sys.stderr)):
        try:
            yield
        finally:
            with suppress(OSError):
                name.unlink()


def _finish(url: str, part: Path, path: Path, checksum: str) -> None:
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    try:
        verify(part, checksum)
    except DownloadError as error:
        part.unlink()  # which bytes are wrong is unknown
        raise DownloadError(
            f"{url}: not the published file, or damaged in transit; it was deleted. Try again from the "
            f"start, or download it by hand to {path} ({error})"
        ) from error
    part.replace(path)


def _receive(url: str, part: Path, size: int | None) -> None:
    """Download until ``part`` is complete, retrying as long as there is progress."""
    pauses, furthest = iter(PAUSES), _held(part)
    with _session(url) as session, tqdm(total=size, unit="B", unit_scale=True, desc=part.stem) as bar:
        while True:
            try:
                return _try_once(session, url, part, size, bar)
            except _BrokenError as broken:
                if _held(part) > furthest:  # real progress: a server may restart from zero each time
                    pauses, furthest = iter(PAUSES), _held(part)
                pause = next(pauses, None)
                if pause is None or broken.pause > LONGEST_PAUSE:
                    raise
                sleep(max(pause, broken.pause))


def _held(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _try_once(session: requests.Session, url: str, part: Path, size: int | None, bar: Any) -> None:
    """Request the missing bytes once, writing them as they arrive."""
    held = _held(part)
    if size is not None and held > size:
        held = 0  # not part of this file
    if held and held == size:
        return
    headers = {"Accept-Encoding": "identity"}  # uncompressed: positions matter
    if held:
        headers["Range"] = f"bytes={held}-"
    try:
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            start, total = _place(response, part, held)
            if size is not None and total not in (size, None):
                raise _RefusedError(f"the server's file has {total} bytes, expected {size}")
            total = total or size
            bar.total = total
            bar.n = bar.last_print_n = bar.initial = start  # bytes held before do not count towards the speed
            bar.refresh()
            if response.status_code == COMPLETE:
                return
            _check_space(part, held, total)
            with part.open("r+b" if held else "wb", buffering=0) as file:
                file.truncate(start)
                file.seek(start)
                for piece in response.iter_content(PIECE):
                    view = memoryview(piece)
                    while view:  # an unbuffered write may be partial
                        view = view[file.write(view) :]
                    bar.update(len(piece))
                    start += len(piece)
    except requests.exceptions.InvalidSchema as error:
        raise _RefusedError(f"neither https nor local ({error})") from error
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _BrokenError(f"no connection, or it broke ({error})") from error
    except requests.RequestException as error:
        raise _RefusedError(str(error)) from error
    if total is not None and start != total:
        raise _BrokenError(f"connection closed after {start} of {total} bytes")


def _place(response: requests.Response, part: Path, held: int) -> tuple[int, int | None]:
    """Offset of this response's bytes in the file, at most ``held``, and the size of the whole file, if known."""
    status, length = response.status_code, response.headers.get("Content-Length")
    if status >= 500 or status in TRANSIENT:
        pause = _retry_after(response)
        wish = f", asking to wait {pause:.0f} s" if pause else ""
        raise _BrokenError(f"the server responded {status} {response.reason}{wish}", pause)
    span = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
    total = int(span[2]) if span and span[2] != "*" else None
    if status == COMPLETE and total == held:
        return held, held
    if status == COMPLETE or (status == 206 and (not span or not span[1] or int(span[1]) > held)):
        part.unlink(missing_ok=True)  # or every retry would fail alike
        raise _BrokenError(f"the server cannot resume from byte {held} ({status} {response.reason})")
    if status not in (200, 206):
        raise _RefusedError(f"the server responded {status} {response.reason}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise _RefusedError("the server sent a web page instead of the file")
    if status == 206 and span:
        return int(span[1]), total
    return 0, int(length) if length else None


def _retry_after(response: requests.Response) -> float:
    """Seconds that the server asks to wait, or 0; the header holds a number or a date."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    with suppress(TypeError, ValueError):
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds())
    return 0.0


def _check_space(part: Path, held: int, total: int | None) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - held > free:
        raise DownloadError(
            f"{part}: {total - held} bytes missing, only {free} free on this disk; free some space, or choose "
            "another folder"
        )


def _session(url: str) -> requests.Session:
    """A session that uses https only, also on redirects (this machine may use http), and sends no credentials."""
    session = _Session()
    session.auth = lambda request: request  # or requests would read ~/.netrc
    parts = urlsplit(url)
    if not (parts.scheme == "http" and parts.hostname in LOCAL):
        del session.adapters["http://"]
    return session


class _Session(requests.Session):
    def rebuild_auth(self, prepared_request: Any, response: Any) -> None:
        """Do not read ~/.netrc again after a redirect."""
