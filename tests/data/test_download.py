"""Downloads resume, check their size, move on to the next mirror, and say in one line what went wrong."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dwm_jax.data import download, minari_store
from dwm_jax.data.download import HDF5_SIGNATURE, DownloadError, Known, fetch
from dwm_jax.runtime import interruption
from tests.data.d4rl_files import arrays_of, assert_same, make_episodes, write

CONTENT = HDF5_SIGNATURE + bytes(range(256)) * 20_000
BLOCK = 1 << 19


class Server(ThreadingHTTPServer):
    """Serves CONTENT; its attributes make it misbehave."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []  # (path, Range header)
        self.break_after = []  # bytes sent before the connection breaks off, one entry per request
        self.ignores_ranges = False
        self.content = CONTENT
        self.pause = 0.0  # seconds after every block
        self.announce = None  # bytes announced, where they differ from those there are
        self.identity = {"ETag": '"one"'}  # of the file there is now

    def url(self, name="file.hdf5"):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append((self.path, asked))
        if "missing" in self.path:
            self.send_error(404)
            return
        is_same = self.headers.get("If-Range") in (None, *server.identity.values())
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and not server.ignores_ranges and is_same else 0
        total = server.announce or len(server.content)
        if start and start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(total - start))
        for name, value in server.identity.items():
            self.send_header(name, value)
        self.end_headers()
        body = body[: server.break_after.pop(0)] if server.break_after else body
        for begin in range(0, len(body), BLOCK):
            self.wfile.write(body[begin : begin + BLOCK])
            time.sleep(server.pause)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "downloads" / "file.hdf5"


def test_a_file_arrives_whole_and_leaves_no_part(server, target):
    seen = []
    assert fetch([server.url()], target, lambda done, total: seen.append((done, total))) == server.url()
    assert target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert list(target.parent.iterdir()) == [target]


def test_a_connection_that_breaks_off_is_taken_up_where_it_broke(server, target):
    server.break_after = [1_000_000, 2_000_000]
    fetch([server.url()], target)
    assert target.read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=1000000-", "bytes=3000000-"]


def test_an_interrupted_download_goes_on_in_the_next_call(server, target, monkeypatch):
    def interrupted():
        raise interruption.Interrupted(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(interruption, "raise_if_requested", interrupted)
        with pytest.raises(interruption.Interrupted):
            fetch([server.url()], target)
    (part,) = target.parent.glob("*.part")
    assert not target.exists()
    size = part.stat().st_size
    assert 0 < size < len(CONTENT)
    fetch([server.url()], target)
    assert server.requests[-1][1] == f"bytes={size}-"
    assert target.read_bytes() == CONTENT


PREPARE_FROM = """
import sys
from dwm_jax.data import __main__, d4rl_tasks
tasks = d4rl_tasks.D4RL_TASKS
tasks["hopper-medium-v2"] = tasks["hopper-medium-v2"]._replace(urls=(sys.argv[1],), file="of-no-known-checksum.hdf5")
sys.exit(__main__.main(["prepare", "hopper-medium-v2"]))
"""


@pytest.mark.end_to_end
def test_a_command_interrupted_in_its_download_goes_on_where_it_stopped(server, tmp_path, monkeypatch):
    episodes = make_episodes([(1_000, False)] * 40, 11, 3)
    server.content = write(tmp_path / "hopper.hdf5", arrays_of(episodes)).read_bytes()
    server.pause = 0.3  # about 2 seconds in all
    root = tmp_path / "datasets"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))

    def prepare():
        return subprocess.Popen([sys.executable, "-c", PREPARE_FROM, server.url()], stderr=subprocess.PIPE, text=True)

    process = prepare()
    while not [part for part in root.glob(".downloads/*.part") if part.stat().st_size] and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert errors.splitlines()[-1] == (
        "stopped by SIGTERM; start the same command again to go on, a download where it stopped"
    )
    (part,) = root.glob(".downloads/*.part")
    size = part.stat().st_size
    assert 0 < size < len(server.content)
    assert minari_store.local_ids() == []

    server.pause = 0.0
    process = prepare()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert [asked for _, asked in server.requests] == [None, f"bytes={size}-"]
    assert_same(minari_store.read_episodes("hopper-medium-v2"), episodes)


def left_behind(server, target, content, said='"one"'):
    """What an earlier, interrupted download left: a part, and what the server said of its file."""
    target.parent.mkdir()
    part = target.with_name(f"file.hdf5.{download.digest(server.url().encode())[:8]}.part")
    part.write_bytes(content)
    if said is not None:
        part.with_name(f"{part.name}.etag").write_text(said)


def test_a_part_that_is_whole_already_is_not_sent_again(server, target):
    left_behind(server, target, CONTENT)
    fetch([server.url()], target)
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_a_part_longer_than_the_file_is_begun_again(server, target):
    left_behind(server, target, CONTENT + b"more")
    fetch([server.url()], target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("identity", [{"ETag": '"one"'}, {"Last-Modified": "Sat, 01 Aug 2020 00:00:00 GMT"}])
def test_a_part_of_the_same_file_is_gone_on_with(server, target, identity):
    server.identity = identity
    (said,) = identity.values()
    left_behind(server, target, CONTENT[:1_000_000], said)
    fetch([server.url()], target)
    assert server.requests == [("/file.hdf5", "bytes=1000000-")]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("said", ['"another"', None], ids=["another file", "a server that did not say"])
def test_a_part_of_another_file_is_begun_again(server, target, said):
    left_behind(server, target, b"x" * 1_000_000, said)
    fetch([server.url()], target)
    assert target.read_bytes() == CONTENT


def test_a_weak_etag_is_no_proof_of_the_same_file(server, target):
    server.identity, server.break_after = {"ETag": 'W/"one"'}, [1_000_000]
    fetch([server.url()], target)
    assert [asked for _, asked in server.requests] == [None, None]
    assert target.read_bytes() == CONTENT


KNOWN = Known(len(CONTENT), download.digest(CONTENT))


def test_a_file_that_is_the_one_that_is_meant_is_kept(server, target):
    assert fetch([server.url()], target, known=KNOWN) == server.url()


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (Known(len(CONTENT), "0" * 64), f"with SHA-256 {KNOWN.sha256[:12]}..., not 000000000000..."),
        (Known(7, KNOWN.sha256), f"has another file: {len(CONTENT):,} bytes, not 7"),
    ],
    ids=["other bytes", "another size"],
)
def test_another_file_is_dropped_and_the_next_mirror_tried(server, target, known, message):
    with pytest.raises(DownloadError, match=re.escape(message)):
        fetch([server.url(), server.url("missing.hdf5")], target, known=known)
    assert [path for path, _ in server.requests] == ["/file.hdf5", "/missing.hdf5"]
    assert list(target.parent.iterdir()) == []


def test_a_server_without_ranges_sends_everything_again(server, target):
    server.ignores_ranges = True
    server.break_after = [1_000_000]
    fetch([server.url()], target)
    assert target.read_bytes() == CONTENT


def test_the_next_mirror_is_tried_when_one_has_not_got_the_file(server, target):
    assert fetch([server.url("missing.hdf5"), server.url()], target) == server.url()
    assert target.read_bytes() == CONTENT


def test_a_file_shorter_than_announced_is_refused(server, target):
    server.announce = len(CONTENT) + 7
    with pytest.raises(DownloadError, match=f"sent {len(CONTENT):,} of the {len(CONTENT) + 7:,} bytes it announced"):
        fetch([server.url()], target)
    assert not target.exists()


def test_a_page_instead_of_a_file_is_refused_and_forgotten(server, target):
    server.content = b"<html>sign in first</html>"
    with pytest.raises(DownloadError, match="something that is not an HDF5 file"):
        fetch([server.url()], target)
    assert list(target.parent.iterdir()) == []


def test_when_all_mirrors_are_down_one_line_says_so_and_names_the_way_out(server, target):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError) as caught:
        fetch([f"http://127.0.0.1:{port}/file.hdf5", server.url("missing.hdf5")], target)
    message = str(caught.value)
    assert re.fullmatch(
        rf"no mirror gave file.hdf5 \(127.0.0.1:{port}: .*refused; 127.0.0.1:{server.server_port}: HTTP 404 .*\); "
        r"get the file by other means and name it with --file",
        message,
    )
