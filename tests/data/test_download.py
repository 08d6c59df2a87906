import hashlib
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest
from flaky_server import FlakyServer, Reply
from interrupts import heed_interrupts

from iagraph.data import download as module
from iagraph.data import records
from iagraph.data.download import DownloadError, download, fetch, verify
from iagraph.data.records import ZenodoFile

PIECE = module.PIECE
SIZE = 300_007  # 18 pieces and a bit
CONTENT = np.random.default_rng(7).bytes(SIZE)
OTHER = np.random.default_rng(8).bytes(SIZE)
LONGER = CONTENT + b"more"


def md5(content):
    return f"md5:{hashlib.md5(content).hexdigest()}"


@pytest.fixture
def pauses(monkeypatch):
    """The requested pauses, none of which is waited for."""
    made = []
    monkeypatch.setattr(module, "sleep", made.append)
    return made


@pytest.fixture
def path(tmp_path, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")  # the test server is on this machine
    return tmp_path / "data" / "file.h5"


@pytest.fixture
def part(path):
    return path.with_name("file.h5.part")


def get(server, path, size=SIZE, content=CONTENT):
    assert download(server.url, path, checksum=md5(content), size=size) == path
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]  # neither a part nor a lock is left


def refusal(server, path, size=SIZE, content=CONTENT):
    with pytest.raises(DownloadError) as caught:
        download(server.url, path, checksum=md5(content), size=size)
    assert not path.exists()
    assert not list(path.parent.glob(".*"))
    assert server.url in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize("length", [True, False])
def test_a_file_is_downloaded_once(path, size, length):
    with FlakyServer(CONTENT, [Reply(length=length)]) as server:
        get(server, path, size)
        get(server, path, size)
        assert server.asked == [None]
        assert server.headers[0]["Accept-Encoding"] == "identity"


def test_sha256_checksums_and_record_addresses(path, monkeypatch):
    file = ZenodoFile(17, "file.h5", f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")
    with FlakyServer(CONTENT, []) as server:
        monkeypatch.setattr(records, "ZENODO", server.url.removesuffix("/file.h5"))
        assert fetch(file, str(path.parent)) == path
        assert server.paths == ["/api/records/17/files/file.h5/content"]
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize("reset", [False, True])
def test_broken_connections_are_resumed(path, pauses, size, reset):
    cuts = [4 * PIECE, 0, 13, 8 * PIECE + 101]
    with FlakyServer(CONTENT, [Reply(cut=cut, reset=reset) for cut in cuts]) as server:
        get(server, path, size)
        begins = [int((asked or "bytes=0-")[6:-1]) for asked in server.asked]
    assert begins == sorted(begins)
    if not reset:  # a reset may overtake the last bytes
        assert begins == [0, 4 * PIECE, 4 * PIECE, 4 * PIECE, 12 * PIECE]  # less than a piece is lost at each break
        assert pauses == [*module.PAUSES[:3], module.PAUSES[0]]  # they restart with every new byte


def test_end_without_content_length_is_not_trusted(path, part, pauses):
    with FlakyServer(CONTENT, [Reply(length=False, cut=12 * PIECE), Reply(length=False, cut=PIECE + 101)]) as server:
        get(server, path)
        assert server.asked == [None, f"bytes={12 * PIECE}-", f"bytes={13 * PIECE + 101}-"]
    with FlakyServer(CONTENT, [Reply(length=False, cut=12 * PIECE)]) as server:
        path.unlink()
        assert "not the published file, or damaged in transit" in refusal(server, path, None)
        assert not part.exists()


def test_pauses_grow_until_attempts_are_exhausted(path, part, pauses):
    with FlakyServer(CONTENT, [Reply(cut=PIECE)] + 99 * [Reply(cut=0)]) as server:
        assert "or it broke" in refusal(server, path)
        assert pauses == list(module.PAUSES)
        assert part.read_bytes() == CONTENT[:PIECE]
        server.replies.clear()
        get(server, path)
        assert server.asked[-1] == f"bytes={PIECE}-"


def test_a_server_without_ranges_starts_over(path, pauses):
    cuts = [Reply(cut=12 * PIECE), Reply(ranges=False, cut=6 * PIECE), Reply(ranges=False)]
    with FlakyServer(CONTENT, cuts) as server:
        get(server, path)
        assert server.asked == [None, f"bytes={12 * PIECE}-", f"bytes={6 * PIECE}-"]


def test_server_that_always_starts_over_is_given_up(path, pauses):
    with FlakyServer(CONTENT, 99 * [Reply(ranges=False, cut=6 * PIECE)]) as server:
        refusal(server, path)
        assert len(server.asked) == 1 + len(module.PAUSES)


def test_earlier_ranges_are_written_at_their_offset(path, pauses):
    with FlakyServer(CONTENT, [Reply(cut=6 * PIECE), Reply(align=10_007)]) as server:
        get(server, path)
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    "useless",
    [Reply(skip=2), Reply(content_range="bytes */*"), Reply(content_range="nonsense"), Reply(content_range="")],
    ids=["gap", "unknown", "nonsense", "empty"],
)
def test_inconsistent_answers_restart_the_file(path, pauses, useless):
    with FlakyServer(CONTENT, [Reply(cut=12 * PIECE), useless]) as server:
        get(server, path)
        assert server.asked == [None, f"bytes={12 * PIECE}-", None]


def test_wrong_range_is_detected(path, part, pauses):
    lie = Reply(content=OTHER, content_range=f"bytes {12 * PIECE}-{SIZE - 1}/{SIZE}")
    with FlakyServer(CONTENT, [Reply(cut=12 * PIECE), lie]) as server:
        assert "damaged" in refusal(server, path)
        assert not part.exists()


@pytest.mark.parametrize("size", [SIZE, None])
def test_file_that_changes_midway_is_restarted(path, part, pauses, size):
    with FlakyServer(CONTENT, [Reply(cut=12 * PIECE), Reply(content=OTHER)]) as server:
        message = refusal(server, path, size)
        assert md5(CONTENT) in message
        assert md5(CONTENT[: 12 * PIECE] + OTHER[12 * PIECE :]) in message
        assert not part.exists()
        get(server, path, size)
        assert server.asked[-1] is None


def test_changed_size_is_detected_before_the_download(path, part, pauses):
    with FlakyServer(CONTENT, [Reply(cut=PIECE), Reply(content=LONGER), Reply(content=LONGER, ranges=False)]) as server:
        for _ in range(2):
            assert "the server's file has 300011 bytes, expected 300007" in refusal(server, path)
            assert part.read_bytes() == CONTENT[:PIECE]
        get(server, path)


def test_corrupt_bytes_are_removed_and_downloaded_again(path, part):
    corrupt = bytearray(CONTENT)
    corrupt[150_001] ^= 1
    with FlakyServer(CONTENT, [Reply(content=bytes(corrupt))]) as server:
        message = refusal(server, path)
        assert "it was deleted" in message
        assert md5(corrupt) in message
        assert not part.exists()
        get(server, path)


@pytest.mark.parametrize("size", [SIZE, None])
def test_complete_part_is_verified_and_used(path, part, size):
    path.parent.mkdir()
    part.write_bytes(CONTENT)
    with FlakyServer(CONTENT, []) as server:
        get(server, path, size)
        assert server.asked == ([] if size else [f"bytes={SIZE}-"])


@pytest.mark.parametrize("size", [SIZE, None])
def test_oversized_part_is_discarded(path, part, pauses, size):
    path.parent.mkdir()
    part.write_bytes(LONGER)
    with FlakyServer(CONTENT, []) as server:
        get(server, path, size)
        assert server.asked == ([None] if size else ["bytes=300011-", None])


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_transient_errors_are_retried(path, pauses, status):
    with FlakyServer(CONTENT, [Reply(cut=PIECE), Reply(status=status, page=b"later"), Reply(status=status)]) as server:
        get(server, path)
        assert server.asked == [None] + 3 * [f"bytes={PIECE}-"]
    assert pauses == list(module.PAUSES[:3])


def test_retries_are_limited(path, pauses):
    with FlakyServer(CONTENT, 99 * [Reply(status=503)]) as server:
        assert "the server responded 503 Service Unavailable" in refusal(server, path)
    assert pauses == list(module.PAUSES)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_permanent_errors_are_not_retried(path, pauses, status):
    with FlakyServer(CONTENT, [Reply(status=status, page=b"<html>no</html>")]) as server:
        message = refusal(server, path)
        assert f"the server responded {status}" in message
        assert f"or download it by hand to {path}" in message
        assert len(server.asked) == 1
        assert list(path.parent.iterdir()) == []
    assert pauses == []


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_respected(path, pauses, status):
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=120), usegmt=True)
    waits = ["59", date, "nonsense", "Mon, 02 Jan 2006 15:04:05 -0000", "0"]
    with FlakyServer(CONTENT, [Reply(status=status, headers={"Retry-After": wait}) for wait in waits]) as server:
        get(server, path)
    assert pauses[0] == 59
    assert 100 < pauses[1] <= 120
    assert pauses[2:] == list(module.PAUSES[2:])


def test_too_long_retry_after_is_an_error(path, pauses):
    with FlakyServer(CONTENT, [Reply(status=429, headers={"Retry-After": "86400"})]) as server:
        assert "asking to wait 86400 s; received bytes are kept: try again later" in refusal(server, path)
    assert pauses == []


def test_web_pages_are_not_data(path, part, pauses):
    page = Reply(content=b"<html>log in</html>", ranges=False, headers={"Content-Type": "text/html; charset=utf-8"})
    with FlakyServer(CONTENT, [Reply(cut=PIECE), page]) as server:
        assert "a web page instead of the file" in refusal(server, path, None)
        assert part.read_bytes() == CONTENT[:PIECE]


def test_stalled_downloads_are_retried(path, pauses, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", (5, 0.1))
    with FlakyServer(CONTENT, [Reply(cut=2 * PIECE + 101, stall=True)]) as server:
        get(server, path)
        assert server.asked == [None, f"bytes={2 * PIECE}-"]


def test_refused_connection_and_unknown_host_are_one_error(path, pauses, monkeypatch):
    def fail(*arguments, **keywords):
        raise socket.gaierror(-2, "no such host")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/file.h5"
    with pytest.raises(DownloadError, match=f"download it by hand to {path}"):
        download(closed, path, checksum=md5(CONTENT))
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(DownloadError, match=rf"no such host.*download it by hand to {path}"):
        download("https://zenodo.example/file.h5", path, checksum=md5(CONTENT))
    assert pauses == 2 * list(module.PAUSES)


def test_redirects_are_followed_with_the_range_but_never_to_files(path, pauses):
    with FlakyServer(CONTENT, []) as other:
        there, away = (Reply(status=302, headers={"Location": url}) for url in (other.url, "file:///etc/passwd"))
        with FlakyServer(CONTENT, [there, there, away]) as server:
            other.replies.append(Reply(cut=PIECE))
            get(server, path)
            assert other.asked == [None, f"bytes={PIECE}-"]
            assert "neither https nor local" in refusal(server, path.with_name("b"))
            circle = Reply(status=302, headers={"Location": server.url})
            server.replies.extend(99 * [circle])
            assert f"{server.url}: " in refusal(server, path.with_name("c"))


@pytest.mark.parametrize("url", ["http://example.org/file.h5", "file:///etc/passwd", "ftp://127.0.0.1/file.h5"])
def test_only_https_is_allowed_for_remote_hosts(path, pauses, url):
    with pytest.raises(DownloadError, match="neither https nor local"):
        download(url, path, checksum=md5(CONTENT))
    assert pauses == []


def test_no_credentials_are_sent(path, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with FlakyServer(CONTENT, []) as other, FlakyServer(CONTENT, []) as server:
        server.replies.append(Reply(status=302, headers={"Location": other.url}))
        get(server, path)
        assert all("Authorization" not in headers for headers in [*server.headers, *other.headers])


@pytest.fixture
def certificate(tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("needs the command openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    options = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    command = ["openssl", *options.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


def test_certificates_are_verified_and_https_does_not_lead_to_http(path, pauses, certificate, monkeypatch):
    context, authority = certificate
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    with FlakyServer(CONTENT, [], context) as server, FlakyServer(CONTENT, []) as plain:
        assert "certificate verify failed" in refusal(server, path)
        assert server.asked == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
        server.replies.append(Reply(status=302, headers={"Location": plain.url}))
        assert "neither https nor local" in refusal(server, path)
        assert plain.asked == []
        get(server, path)


def test_insufficient_disk_space_is_detected_before_writing(path, part, monkeypatch):
    def usage(folder):
        assert folder == path.parent
        return shutil._ntuple_diskusage(SIZE, 103, SIZE - 103)

    path.parent.mkdir()
    part.write_bytes(CONTENT[:101])
    monkeypatch.setattr(module.shutil, "disk_usage", usage)
    with FlakyServer(CONTENT, []) as server:
        for size in (SIZE, None):
            with pytest.raises(DownloadError, match=r"299906 bytes missing, only 299904 free.*free some space"):
                download(server.url, path, checksum=md5(CONTENT), size=size)
        assert part.read_bytes() == CONTENT[:101]
        part.write_bytes(CONTENT[:103])
        get(server, path)


@pytest.mark.parametrize("room", [100_003, SIZE - 5])
def test_full_disk_keeps_received_bytes(path, part, room):
    path.parent.mkdir()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with FlakyServer(CONTENT, []) as server:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limit[1]))  # the system refuses to write more
        try:
            with pytest.raises(DownloadError, match=r"cannot write.*free space.*are kept; the next attempt resumes"):
                download(server.url, path, checksum=md5(CONTENT), size=SIZE)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert part.read_bytes() == CONTENT[:room]
        get(server, path)
        assert server.asked == [None, f"bytes={room}-"]


def test_impossible_destinations_are_one_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with FlakyServer(CONTENT, []) as server:
        with pytest.raises(DownloadError, match="cannot write"):
            download(server.url, tmp_path / "file" / "file.h5", checksum=md5(CONTENT))
        with pytest.raises(DownloadError, match="folder: not a file; remove it, or choose another folder"):
            download(server.url, tmp_path / "folder", checksum=md5(CONTENT))
        assert server.asked == []


def test_existing_file_is_kept_and_its_size_checked(path):
    path.parent.mkdir()
    path.write_bytes(OTHER)
    with FlakyServer(CONTENT, []) as server:
        assert download(server.url, path, checksum=md5(CONTENT), size=SIZE) == path
        with pytest.raises(DownloadError, match="has 300007 bytes, expected 300011; delete it"):
            download(server.url, path, checksum=md5(LONGER), size=len(LONGER))
        assert server.asked == []
    with pytest.raises(DownloadError, match=f"checksum is {md5(OTHER)}, expected {md5(CONTENT)}"):
        verify(path, md5(CONTENT))
    verify(path, md5(OTHER))
    assert path.read_bytes() == OTHER


def test_progress_bar_counts_bytes_in_the_file(path, pauses, monkeypatch):
    bars = []

    class Bar(module.tqdm):
        def __init__(self, *arguments, **keywords):
            self.begins = []
            super().__init__(*arguments, **keywords)
            bars.append(self)

        def refresh(self, *arguments, **keywords):
            self.begins.append((self.n, self.initial, self.total))
            return super().refresh(*arguments, **keywords)

        def close(self):
            self.end = (self.n, self.total)
            super().close()

    monkeypatch.setattr(module, "tqdm", Bar)
    with FlakyServer(CONTENT, [Reply(cut=12 * PIECE), Reply(cut=3 * PIECE), Reply(ranges=False)]) as server:
        get(server, path, None)
    assert bars[0].desc == "file.h5"
    assert [begin for begin in bars[0].begins if begin[0] == begin[1] and begin[2]] == [
        (0, 0, SIZE),
        (12 * PIECE, 12 * PIECE, SIZE),
        (0, 0, SIZE),
    ]
    assert [bar.end for bar in bars] == [(SIZE, SIZE), (SIZE, SIZE)]  # the second bar is that of the checksum


# The package's own __init__ would load PyTorch, which takes seconds.
CHILD = """
import sys, types
for name, folder in [("iagraph", sys.argv[1]), ("iagraph.data", sys.argv[1] + "/data")]:
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from iagraph.data.download import download
download(sys.argv[2], sys.argv[3], checksum=sys.argv[4])
"""


def start(server, path):
    folder = Path(module.__file__).parents[1]
    command = [sys.executable, "-c", CHILD, str(folder), server.url, str(path), md5(CONTENT)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_bytes_of_a_killed_process_are_reused(path, part, end):
    held = 3 * PIECE
    with FlakyServer(CONTENT, [Reply(cut=held, stall=True)]) as server:
        with start(server, path) as process:
            wait_for(lambda: part.exists() and part.stat().st_size == held, process)
            process.send_signal(end)
            process.communicate()
        assert process.returncode != 0
        assert part.read_bytes() == CONTENT[:held]
        get(server, path)
        assert server.asked == [None, f"bytes={held}-"]


def test_concurrent_processes_download_a_file_once(path, part, capsys):
    with FlakyServer(CONTENT, [Reply(cut=PIECE, stall=True)]) as server:
        with start(server, path) as process:
            wait_for(lambda: part.exists() and part.stat().st_size == PIECE, process)
            second = threading.Thread(target=download, args=(server.url, path), kwargs={"checksum": md5(CONTENT)})
            second.start()
            waiting = ""
            while "another process is downloading it; waiting" not in waiting:
                waiting += capsys.readouterr().err
                time.sleep(0.01)
            server.go_on.set()
            second.join()
            process.communicate()
        assert process.returncode == 0
        assert server.asked == [None]
        get(server, path)


@pytest.mark.parametrize("missing", ["requests", "filelock", "tqdm"])
def test_missing_packages_name_the_install_command(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "iagraph.data.download")
    with pytest.raises(ImportError, match=f"downloading needs {missing}: pip install 'iagraph\\[data\\]'"):
        import iagraph.data.download  # noqa: F401
