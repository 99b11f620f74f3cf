"""`llama-halo fetch` as a process: resumed, verified, one at a time, and what goes wrong."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from hack.testbed.ports import free_port
from llama_halo.artifacts.store import LOCK, MANIFEST, PARTIAL
from tests.support.api import eventually
from tests.support.hub import COMMIT, Hub, serve, sha256_of
from tests.support.job_process import Job

Json = dict[str, Any]
FILE = "sub/x-Q4_K_M.gguf"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


class Fetch:
    """A fetch of the Hub's model, or of the same file behind a URL."""

    def __init__(self, job: Job, store: Path) -> None:
        self.job, self.store = job, store
        self.path = job.hub.folder / FILE
        self.size = self.path.stat().st_size
        self.sha256 = sha256_of(self.path)
        self.of_hub = ("--repo", "o/r", "--file", FILE, "--revision", COMMIT)
        self.of_hub += ("--sha256", self.sha256, "--folder", "hf/o/r/d")
        self.target = store / "hf/o/r/d" / FILE

    def of_url(self, *, url: str = "") -> tuple[str, ...]:
        """Return the arguments for a URL without a checksum, as inspected now."""
        arguments = ("--url", f"{url or self.job.hub.url}/plain/{FILE}")
        job = self.job("inspect", *arguments)[1]
        return (*arguments, "--version", job["version"], "--folder", job["folder"])

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        self.port = free_port()
        more = ("--store", str(self.store), "--port", str(self.port))
        return self.job.start("fetch", *(arguments or self.of_hub), *more, **environment)

    def __call__(self, *arguments: str, **environment: str) -> tuple[int, Json]:
        return self.job.end(self.start(*arguments, **environment))

    def progress(self) -> Json:
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{self.port}/progress"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return dict(json.loads(answer.read()))
        return {}

    def stored_bytes(self) -> int:
        """Return how many bytes have been received."""
        return sum(partial.stat().st_size for partial in self.partials())

    def partials(self) -> list[Path]:
        """Return the unfinished files, one of each origin."""
        return list(self.target.parent.glob(f"{self.target.name}.*{PARTIAL}"))


@pytest.fixture
def fetch(job: Job, store: Path) -> Fetch:
    return Fetch(job, store)


def test_a_file_is_verified_named_and_described(fetch: Fetch) -> None:
    status, value = fetch()
    assert (status, value) == (0, {"bytes": fetch.size, "sha256": fetch.sha256})
    assert fetch.target.read_bytes() == fetch.path.read_bytes()
    assert oct(fetch.target.stat().st_mode & 0o777) == "0o644"
    manifest = json.loads(fetch.target.with_name(fetch.target.name + MANIFEST).read_text())
    assert (manifest["sha256"], manifest["bytes"]) == (fetch.sha256, fetch.size)
    assert not list(fetch.store.rglob(f"*{PARTIAL}"))


def test_what_is_there_is_not_fetched_again(fetch: Fetch) -> None:
    fetch()
    sent = fetch.job.hub.sent_bytes
    assert fetch() == (0, {"bytes": fetch.size, "sha256": fetch.sha256})
    assert fetch.job.hub.sent_bytes == sent


def test_a_file_whose_manifest_is_missing_is_verified_and_not_fetched_again(
    fetch: Fetch,
) -> None:
    """As a power cut between the two leaves it."""
    fetch()
    sent = fetch.job.hub.sent_bytes
    fetch.target.with_name(fetch.target.name + MANIFEST).unlink()
    assert fetch() == (0, {"bytes": fetch.size, "sha256": fetch.sha256})
    assert fetch.job.hub.sent_bytes == sent
    assert fetch.target.with_name(fetch.target.name + MANIFEST).exists()


def test_killed_ten_times_it_fetches_hardly_a_byte_twice(fetch: Fetch) -> None:
    hub = fetch.job.hub
    with fetch.path.open("ab") as file:
        file.write(os.urandom(40 * 2**20))
    fetch = Fetch(fetch.job, fetch.store)
    for number in range(10):
        size = fetch.size * (number + 1) // 12
        hub.stop_at = size + 2**16  # at most two parts of 64 KiB are on their way at the kill
        process = fetch.start()
        eventually(lambda least=size: fetch.stored_bytes() >= least, seconds=60)  # type: ignore[misc]
        process.kill()
        process.communicate()
    hub.stop_at = None
    assert fetch()[0] == 0
    assert sha256_of(fetch.target) == fetch.sha256
    twice = hub.sent_bytes - fetch.size
    print(f"fetched twice: {twice} of {fetch.size} bytes, {twice / fetch.size:.2%}")
    assert twice < 0.05 * fetch.size


def test_cut_connections_and_passing_refusals_are_gone_on_from(fetch: Fetch) -> None:
    hub = fetch.job.hub
    hub.cut_after, hub.fails_next, hub.retry_after = 3 * 2**20, [503, 429, 500], "1"
    assert fetch()[0] == 0
    assert sha256_of(fetch.target) == fetch.sha256
    assert hub.sent_bytes == fetch.size


def test_a_server_without_ranges_is_read_from_the_start(fetch: Fetch) -> None:
    arguments = fetch.of_url()
    fetch.job.hub.ranges, fetch.job.hub.fails_next = True, []
    with serve(Hub(fetch.job.hub.folder, cut_after=4 * 2**20)) as hub:
        # The first answer is cut; the second one sends it all.
        process = fetch.start(*("--url", f"{hub.url}/plain/{FILE}", *arguments[2:]))
        eventually(lambda: len(hub.asked) > 1)
        hub.ranges, hub.cut_after = False, 0
        status, value = fetch.job.end(process)
    assert (status, value["sha256"]) == (0, fetch.sha256)


def test_a_byte_that_arrives_wrong_is_noticed_and_nothing_is_left(fetch: Fetch) -> None:
    fetch.job.hub.flips = True
    status, value = fetch()
    assert (status, value["error"]["reason"]) == (0, "ChecksumMismatch")
    assert fetch.sha256 in value["error"]["message"]
    assert not fetch.target.exists()
    fetch.job.hub.flips = False
    assert fetch()[0] == 0


def test_a_damaged_partial_file_costs_one_more_download_and_no_error(fetch: Fetch) -> None:
    fetch.job.hub.stop_at = 2**20
    process = fetch.start()
    eventually(lambda: fetch.stored_bytes() >= 2**20)
    process.kill()
    process.communicate()
    (partial,) = fetch.partials()
    partial.write_bytes(bytes(2**20))
    fetch.job.hub.stop_at = None
    status, value = fetch()
    assert (status, value["sha256"]) == (0, fetch.sha256)


def test_a_source_that_changed_under_its_url_is_caught(fetch: Fetch) -> None:
    arguments = fetch.of_url()
    fetch.path.write_bytes(fetch.path.read_bytes()[:-1] + b"x")
    status, value = fetch(*arguments)
    assert (status, value["error"]["reason"]) == (0, "ChecksumMismatch")
    assert "not the one that was inspected" in value["error"]["message"]


def test_a_source_that_changes_while_it_is_fetched_is_caught(fetch: Fetch) -> None:
    arguments = fetch.of_url()
    fetch.job.hub.cut_after = 3 * 2**20
    fetch.job.hub.stop_at = 2**20
    process = fetch.start(*arguments)
    eventually(lambda: list(fetch.store.rglob(f"*{PARTIAL}")))
    fetch.path.write_bytes(fetch.path.read_bytes()[:-1] + b"x")
    fetch.job.hub.stop_at = None
    status, value = fetch.job.end(process)
    assert (status, value["error"]["reason"]) == (0, "ChecksumMismatch"), value


def test_a_hub_that_changes_a_commits_checksum_is_caught(fetch: Fetch) -> None:
    fetch.path.write_bytes(fetch.path.read_bytes()[:-1] + b"x")
    status, value = fetch()
    assert (status, value["error"]["reason"]) == (0, "ChecksumMismatch")


def test_shards_are_fetched_each_with_its_checksum(job: Job, store: Path, tmp_path: Path) -> None:
    for index in range(1, 4):
        (job.hub.folder / f"m-{index:05}-of-00003.gguf").write_bytes(b"GGUF" * 1000 * index)
    arguments = ("--repo", "o/r", "--file", "m-00001-of-00003.gguf", "--revision", COMMIT)
    more = ("--shards", "3", "--store", str(store), "--folder", "hf/o/r/d", "--port", "0")
    status, value = job("fetch", *arguments, *more)
    assert (status, value["bytes"]) == (0, 24000)
    names = sorted(path.name for path in (store / "hf/o/r/d").glob("*.gguf"))
    assert names == [f"m-{index:05}-of-00003.gguf" for index in range(1, 4)]
    changed = ("--sha256", "0" * 64)
    status, value = job("fetch", *arguments, *changed, *more)
    assert value["error"]["reason"] == "ChecksumMismatch"


def test_two_at_once_fetch_one_file_once(fetch: Fetch, tmp_path: Path) -> None:
    fetch.job.hub.stop_at = fetch.size // 2
    first = fetch.start()
    other = Fetch(Job(tmp_path / "other", fetch.job.hub), fetch.store)
    other.job.folder.mkdir()
    second = other.start()
    # The one that waits tells how far the other is.
    eventually(lambda: other.progress().get("bytes", 0) > 0 and fetch.progress())
    fetch.job.hub.stop_at = None
    assert fetch.job.end(first)[0] == 0
    assert other.job.end(second)[0] == 0
    assert fetch.job.hub.sent_bytes == fetch.size


def test_progress_tells_bytes_rate_and_time(fetch: Fetch) -> None:
    fetch.job.hub.bytes_per_second, fetch.job.hub.stop_at = 2 * 2**20, fetch.size // 2
    process = fetch.start()
    value = eventually(fetch.progress, until=lambda observed: observed.get("bytesPerSecond"))
    assert value["totalBytes"] == fetch.size
    assert 0 < value["bytes"] <= fetch.size
    assert value["remainingSeconds"] >= 0
    fetch.job.hub.stop_at = None
    assert fetch.job.end(process)[0] == 0


def test_sigterm_ends_it_at_once_and_keeps_what_came(fetch: Fetch) -> None:
    fetch.job.hub.stop_at = 2 * 2**20
    process = fetch.start()
    eventually(lambda: fetch.stored_bytes() > 2**20)
    started = time.monotonic()
    process.terminate()
    process.communicate(timeout=10)
    assert time.monotonic() - started < 5
    assert fetch.stored_bytes() > 2**20


@pytest.mark.parametrize(
    ("trouble", "status", "reason"),
    [
        ({"fails_next": [401] * 9}, 1, "Unauthorized"),
        ({"fails_next": [403] * 9}, 1, "Unauthorized"),
        ({"fails_next": [404] * 9}, 1, "SourceNotFound"),
        ({"token": "secret"}, 1, "Unauthorized"),
        ({"encoding": "gzip"}, 1, "SourceUnreachable"),
    ],
    ids=str,
)
def test_what_refuses_a_download_has_its_reason(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch, trouble: Any, status: int, reason: str
) -> None:
    with serve(Hub(fetch.job.hub.folder, **trouble)) as hub:
        report = fetch(HF_ENDPOINT=hub.url)
    assert (report[0], report[1]["error"]["reason"]) == (status, reason)


@pytest.mark.parametrize("weak_first", [True, False])
def test_an_etag_that_a_proxy_marks_as_weak_is_the_same(fetch: Fetch, weak_first: bool) -> None:
    hub = fetch.job.hub
    hub.weak = weak_first
    arguments = fetch.of_url()
    hub.weak = not weak_first
    status, value = fetch(*arguments)
    assert (status, value.get("sha256")) == (0, fetch.sha256)


def test_what_the_disk_would_not_hold_is_refused_beforehand(fetch: Fetch, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 4) as fetch.store:
        status, value = fetch()
    assert (status, value["error"]["reason"]) == (1, "StoreFull")
    assert "store prune" in value["error"]["message"]


def test_a_store_that_is_not_there_or_not_writable_is_named(fetch: Fetch, tmp_path: Path) -> None:
    fetch.store = tmp_path / "none"
    status, value = fetch()
    assert (status, value["error"]["reason"]) == (1, "StoreUnusable")
    assert "is not a directory" in value["error"]["message"]


def test_store_list_and_prune_tell_and_remove_what_no_model_uses(
    fetch: Fetch, tmp_path: Path
) -> None:
    fetch()
    old = fetch.store / "hf/o/old/d/old.gguf.partial"
    old.parent.mkdir(parents=True)
    old.write_bytes(bytes(1000))
    (fetch.store / "mine.gguf").write_bytes(b"by hand")
    used = f"hf/o/r/d/{FILE}"
    listed = llama_halo("store", "list", "--store", str(fetch.store))
    assert used in listed
    assert "mine.gguf" not in listed
    output = llama_halo(
        "store", "prune", "--store", str(fetch.store), "--keep", used, "--no-cluster"
    )
    assert "hf/o/old/d/old.gguf" in output
    assert old.exists()
    llama_halo(
        "store", "prune", "--store", str(fetch.store), "--keep", used, "--no-cluster", "--yes"
    )
    assert not (fetch.store / "hf/o/old").exists()
    assert fetch.target.exists()
    assert (fetch.store / "mine.gguf").exists()


def test_store_prune_leaves_a_folder_that_is_being_downloaded_into(fetch: Fetch) -> None:
    fetch.job.hub.stop_at = 2**20
    process = fetch.start()
    eventually(lambda: fetch.stored_bytes() > 0)
    output = llama_halo(
        "store", "prune", "--store", str(fetch.store), "--keep", "x", "--no-cluster", "--yes"
    )
    assert "in use" in output
    fetch.job.hub.stop_at = None
    assert fetch.job.end(process)[0] == 0
    assert list(fetch.target.parents[1].glob(f"*{LOCK}"))


def llama_halo(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "llama_halo", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def small_disk(path: Path, mib: int) -> Any:
    """Mount a disk of so many MiB; tests run as root, as the testbed does."""
    path.mkdir()
    subprocess.run(
        ["/usr/bin/mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", path], check=True
    )
    try:
        yield path
    finally:
        subprocess.run(["/usr/bin/umount", path], check=True)


def test_a_server_that_sends_nothing_keeps_no_other_namespace_waiting(
    fetch: Fetch, tmp_path: Path
) -> None:
    """Both know the checksum, so both download into one folder."""
    with serve(Hub(fetch.job.hub.folder, stop_at=2**20)) as silent:
        theirs = Fetch(Job(tmp_path / "theirs", silent), fetch.store)
        theirs.job.folder.mkdir()
        stuck = theirs.start(*theirs.of_hub, "--namespace", "team-b")
        eventually(lambda: fetch.stored_bytes() >= 2**20)
        status, value = fetch(*fetch.of_hub, "--namespace", "team-a")
        assert (status, value["sha256"]) == (0, fetch.sha256)
        silent.stop_at = None
        assert theirs.job.end(stuck)[0] == 0
    assert sha256_of(fetch.target) == fetch.sha256
    assert not fetch.partials()
    manifest = json.loads(fetch.target.with_name(fetch.target.name + MANIFEST).read_text())
    assert manifest["sha256"] == fetch.sha256


def test_a_file_without_a_checksum_is_its_namespaces_own(fetch: Fetch) -> None:
    """Another namespace's server may send other bytes of the same size and ETag for one URL."""
    url = ("--url", f"{fetch.job.hub.url}/plain/{FILE}")
    folders = {}
    for namespace in ("team-a", "team-b"):
        job = fetch.job("inspect", *url, "--namespace", namespace)[1]
        folders[namespace] = job["folder"]
    assert len(set(folders.values())) == 2
    named = ("--sha256", fetch.sha256)
    shared = {
        fetch.job("inspect", *url, *named, "--namespace", namespace)[1]["folder"]
        for namespace in ("team-a", "team-b")
    }
    assert len(shared) == 1, "a checksum shows what a file is"


@pytest.mark.parametrize(("reserve", "status"), [("1Gi", 0), ("99%", 1), ("900Ti", 1)])
def test_a_download_leaves_what_the_kubelet_needs(fetch: Fetch, reserve: str, status: int) -> None:
    code, value = fetch(*fetch.of_hub, "--reserve", reserve)
    assert code == status
    if status:
        assert value["error"]["reason"] == "StoreFull"
        assert "LLAMA_HALO_STORE_RESERVE" in value["error"]["message"]
        assert ("99 % of the disk" in value["error"]["message"]) == (reserve == "99%")
