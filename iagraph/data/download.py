"""Large published files from the web: resumed after a break, checked before they get their name.

What has arrived stands in `NAME.part` beside the file; it gets its name only with the right checksum. A broken
connection, Ctrl-C or a killed process leaves it there, and the next try asks for the missing bytes only (HTTP Range).
Because the checksum decides in the end, no ETag is kept: Zenodo does not send one with every answer. A file that
stands under its name is taken as it is, but for its size where that is known: hashing gigabytes at each start would
cost minutes, and what this module put there was checked. `verify` checks a file that came another way.
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

TIMEOUT = (10.0, 60.0)  # seconds: to connect, and without any new byte
PAUSES = (1.0, 3.0, 10.0, 30.0, 60.0)  # seconds before each further try; they begin anew when new bytes have arrived
LONGEST_PAUSE = 300.0  # seconds that a server may ask for; Zenodo counts requests per minute
PIECE = 16384  # bytes per write: a break loses less than this
LOCAL = ("127.0.0.1", "localhost", "::1")  # http is allowed here: nobody stands in between
COMPLETE = 416  # "range not satisfiable": nothing of the file lies beyond what is held
PASSING = (408, 425, 429)  # HTTP errors that pass, besides 500 and above


class DownloadError(RuntimeError):
    """A file could not be downloaded, or is not the published one; the message says what to do."""


class _RefusedError(Exception):
    """An answer that another try would not change."""


class _BrokenError(Exception):
    """Something that may pass; `pause` is how long the server asks to wait, in seconds."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


def fetch(file: ZenodoFile, folder: str | Path) -> Path:
    """A published file in this folder, downloaded if it is not there yet; see `download`."""
    return download(file.url, user_path(folder) / file.name, checksum=file.checksum, size=file.size)


def download(url: str, path: str | Path, *, checksum: str, size: int | None = None) -> Path:
    """Download one file, unless it is there; several processes may ask for the same file at once.

    Args:
        url: Where it is; https, except on this machine.
        path: Where it goes; missing folders are made.
        checksum: Algorithm and hexadecimal digest, for example "md5:0cc1...".
        size: Its bytes, if known.

    Returns:
        `path`.

    Raises:
        DownloadError: If it cannot be had, or is not what was expected. Bytes that can be used are kept.
    """
    path = user_path(path)
    part = path.with_name(f"{path.name}.part")
    try:
        if _is_there(path, size):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            if not _is_there(path, size):  # another process may have finished while this one waited
                _receive(url, part, size)
                _finish(url, part, path, checksum)
    except (_BrokenError, _RefusedError) as error:
        advice = f"what has arrived is kept: try again later, or download it by hand to {path}"
        raise DownloadError(f"{url}: {error}; {advice}") from error
    except OSError as error:
        reason = f"cannot write ({error.strerror or error}); check folder, permissions and free space"
        raise DownloadError(f"{path}: {reason}. What has arrived of {url} is kept, and the next try goes on") from error
    return path


def verify(path: str | Path, checksum: str) -> None:
    """Compare a file with its checksum, "md5:..." or "sha256:...".

    Raises:
        DownloadError: If they differ.
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
            "file; remove it and download it again"
        )


def _is_there(path: Path, size: int | None) -> bool:
    if not path.exists():
        return False
    if not path.is_file():
        raise DownloadError(f"{path}: is not a file; remove it, or choose another folder")
    if size not in (None, found := path.stat().st_size):
        raise DownloadError(f"{path}: has {found} bytes, published are {size}; remove it to download it again")
    return True


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from the same file, see `iagraph.files.locked`.

    Without a lock two of them could write into one `part`. The checksum would notice, but only after gigabytes.
    """
    name = path.with_name(f".{path.name}.lock")
    told = f"{path}: another process downloads it; waiting"
    with locked(name, lambda holder: tqdm.write(f"{told} ({holder})", file=sys.stderr)):
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
        part.unlink()  # nothing tells which of its bytes are wrong
        raise DownloadError(
            f"{url}: not the published file, or damaged on the way; it is removed and would be downloaded from its "
            f"first byte. Try again, or download it by hand to {path} ({error})"
        ) from error
    part.replace(path)


def _receive(url: str, part: Path, size: int | None) -> None:
    """Download until `part` is complete, in as many tries as bring it forward."""
    pauses, furthest = iter(PAUSES), _held(part)
    with _session(url) as session, tqdm(total=size, unit="B", unit_scale=True, desc=part.stem) as bar:
        while True:
            try:
                return _try_once(session, url, part, size, bar)
            except _BrokenError as broken:
                if _held(part) > furthest:  # not merely as far as before: a server may always start from the beginning
                    pauses, furthest = iter(PAUSES), _held(part)
                pause = next(pauses, None)
                if pause is None or broken.pause > LONGEST_PAUSE:
                    raise
                sleep(max(pause, broken.pause))


def _held(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _try_once(session: requests.Session, url: str, part: Path, size: int | None, bar: Any) -> None:
    """One request for what is missing, written as it arrives."""
    held = _held(part)
    if size is not None and held > size:
        held = 0  # whatever it is, it is no part of this file
    if held and held == size:
        return
    headers = {"Accept-Encoding": "identity"}  # bytes as they are on the server's disk: their positions matter
    if held:
        headers["Range"] = f"bytes={held}-"
    try:
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            start, total = _place(response, part, held)
            if size is not None and total not in (size, None):
                raise _RefusedError(f"the server has a file of {total} bytes, published are {size}")
            total = total or size
            bar.total = total
            bar.n = bar.last_print_n = bar.initial = start  # the bytes of earlier tries, which do not count as speed
            bar.refresh()
            if response.status_code == COMPLETE:
                return
            _check_space(part, held, total)
            with part.open("r+b" if held else "wb", buffering=0) as file:
                file.truncate(start)
                file.seek(start)
                for piece in response.iter_content(PIECE):
                    _write(file, piece)
                    bar.update(len(piece))
                    start += len(piece)
    except requests.exceptions.InvalidSchema as error:
        raise _RefusedError(f"neither https nor on this machine ({error})") from error
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _BrokenError(f"there is no connection, or the connection broke ({error})") from error
    except requests.RequestException as error:
        raise _RefusedError(str(error)) from error
    if total is not None and start != total:
        raise _BrokenError(f"the connection ended after {start} of {total} bytes")


def _place(response: requests.Response, part: Path, held: int) -> tuple[int, int | None]:
    """Where the bytes of this answer begin in the file, at most at `held`, and how many the whole file has."""
    status, length = response.status_code, response.headers.get("Content-Length")
    if status >= 500 or status in PASSING:
        pause = _retry_after(response)
        wish = f", and asks to wait for {pause:.0f} s" if pause else ""
        raise _BrokenError(f"the server answers {status} {response.reason}{wish}", pause)
    span = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
    total = int(span[2]) if span and span[2] != "*" else None
    if status == COMPLETE and total == held:
        return held, held
    if status == COMPLETE or (status == 206 and (not span or not span[1] or int(span[1]) > held)):
        part.unlink(missing_ok=True)  # else every further try would end like this one
        raise _BrokenError(f"the server cannot go on from byte {held} ({status} {response.reason})")
    if status not in (200, 206):
        raise _RefusedError(f"the server answers {status} {response.reason}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise _RefusedError("the server sends a web page instead of the file")
    if status == 206 and span:
        return int(span[1]), total
    return 0, int(length) if length else None


def _retry_after(response: requests.Response) -> float:
    """Seconds that the server asks to wait: the header has a number of them, or a date."""
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
            f"{part}: {total - held} bytes are missing, but only {free} are free on this disk; make room, or choose "
            "another folder"
        )


def _write(file: Any, piece: bytes) -> None:
    view = memoryview(piece)
    while view:  # without a buffer, one call may write less than all
        view = view[file.write(view) :]


def _session(url: str) -> requests.Session:
    """Speaks https alone, on redirects too (http for this machine), and sends no credentials to anyone."""
    session = _Session()
    session.auth = lambda request: request  # or requests would look for a password in ~/.netrc
    parts = urlsplit(url)
    if not (parts.scheme == "http" and parts.hostname in LOCAL):
        del session.adapters["http://"]
    return session


class _Session(requests.Session):
    def rebuild_auth(self, prepared_request: Any, response: Any) -> None:
        """After a redirect, requests would look into ~/.netrc again."""
