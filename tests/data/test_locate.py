from __future__ import annotations

import hashlib
import http.server
import io
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.data import finder, locate
from benchmark.errors import MissingInput, StorageError, UsageError

CONTENTS = {"train": b"many images", "test": b"few images", "meta": b"names"}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def archive_of(contents: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-100-python/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def write(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data in the working directory or the environment, and no way to the network."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv(finder.ENVIRONMENT, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(locate, "URL", f"http://127.0.0.1:{unused.getsockname()[1]}/a.tar.gz")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The official files replaced by three short ones; returns their archive."""
    packed = archive_of(CONTENTS)
    monkeypatch.setattr(locate, "FILES", {name: md5(content) for name, content in CONTENTS.items()})
    monkeypatch.setattr(locate, "ARCHIVE_MD5", md5(packed))
    return packed


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A web server at the archive's address; it answers with what the test puts under `body`."""
    answer: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer["body"])))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(answer["body"])

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        monkeypatch.setattr(locate, "URL", f"http://127.0.0.1:{running.server_port}/a.tar.gz")
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield answer
        running.shutdown()
        thread.join()


def test_the_official_files_are_found_and_verified(cifar100_dir: Path) -> None:
    found = locate.find_cifar100(cifar100_dir)
    assert found is not None
    assert found.folder == cifar100_dir / "cifar-100-python"
    assert found.md5s == {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    }


def test_the_constants_are_torchvisions() -> None:
    from torchvision.datasets import CIFAR100

    listed = dict([*CIFAR100.train_list, *CIFAR100.test_list])
    assert listed | {CIFAR100.meta["filename"]: CIFAR100.meta["md5"]} == locate.FILES
    assert (CIFAR100.base_folder, CIFAR100.filename) == (locate.FOLDER, locate.ARCHIVE)
    assert CIFAR100.tgz_md5 == locate.ARCHIVE_MD5


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("inside", ["cifar-100-python", "renamed"])
def test_a_data_dir_may_be_the_folder_itself(tmp_path: Path, inside: str) -> None:
    folder = write(tmp_path / inside, CONTENTS)
    found = locate.find_cifar100(folder)
    assert found is not None
    assert found.folder == folder


@pytest.mark.usefixtures("tiny")
def test_the_places_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def where(data_dir: Path | None) -> Path:
        found = locate.find_cifar100(data_dir)
        assert found is not None
        return found.folder

    assert locate.find_cifar100(None) is None
    default = write(Path("data/cifar-100-python"), CONTENTS)
    assert where(None) == default
    monkeypatch.setenv(finder.ENVIRONMENT, str(tmp_path / "empty"))
    assert where(None) == default
    named = write(tmp_path / "named/cifar-100-python", CONTENTS)
    monkeypatch.setenv(finder.ENVIRONMENT, str(tmp_path / "named"))
    assert where(None) == named
    given = write(tmp_path / "given/cifar-100-python", CONTENTS)
    assert where(tmp_path / "given") == given


@pytest.mark.usefixtures("tiny")
def test_a_data_dir_without_data_is_an_error_even_where_other_places_have_some(tmp_path: Path) -> None:
    write(Path("data/cifar-100-python"), CONTENTS)
    with pytest.raises(MissingInput, match="given holds no CIFAR-100"):
        locate.resolve("cifar100", tmp_path / "given", allow_download=True, allow_generated=True)


@pytest.mark.usefixtures("tiny")
def test_a_wrong_file_is_named_with_both_sums_and_the_command(tmp_path: Path) -> None:
    folder = write(tmp_path / "cifar-100-python", CONTENTS | {"test": b"few im"})
    with pytest.raises(MissingInput) as caught:
        locate.resolve("cifar100", tmp_path, allow_download=True, allow_generated=True)
    assert str(folder / "test") in caught.value.message
    assert md5(b"few im") in caught.value.message
    assert md5(b"few images") in caught.value.message
    assert caught.value.fix.endswith(f"{locate.URL} | tar -xz --strip-components=1 -C {folder}")


@pytest.mark.usefixtures("tiny")
def test_a_missing_file_is_named_with_the_command(tmp_path: Path) -> None:
    folder = write(tmp_path / "cifar-100-python", {"train": CONTENTS["train"]})
    with pytest.raises(MissingInput, match=r"test is missing \(expected md5 [0-9a-f]{32}\).*only a part") as caught:
        locate.find_cifar100(tmp_path)
    assert str(folder) in caught.value.fix


def test_the_mending_command_mends(tmp_path: Path, tiny: bytes, server: dict[str, bytes]) -> None:
    server["body"] = tiny
    write(tmp_path / "cifar-100-python", {"train": b"cut off"})
    with pytest.raises(MissingInput) as caught:
        locate.find_cifar100(tmp_path)
    subprocess.run(caught.value.fix, shell=True, check=True, capture_output=True)
    assert locate.find_cifar100(tmp_path) is not None


def test_an_archive_is_unpacked_once(tmp_path: Path, tiny: bytes) -> None:
    (tmp_path / locate.ARCHIVE).write_bytes(tiny)
    found = locate.find_cifar100(tmp_path)
    assert found is not None
    assert {path.name for path in found.folder.iterdir()} == set(CONTENTS)
    (tmp_path / locate.ARCHIVE).unlink()
    assert locate.find_cifar100(tmp_path) == found
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_archive_cut_off_is_named_with_both_sums(tmp_path: Path, tiny: bytes) -> None:
    (tmp_path / locate.ARCHIVE).write_bytes(tiny[:-9])
    with pytest.raises(MissingInput, match=f"{md5(tiny[:-9])}, expected {md5(tiny)}") as caught:
        locate.find_cifar100(tmp_path)
    assert caught.value.fix.startswith("curl")


def test_a_download_is_unpacked_and_verified(
    tmp_path: Path, tiny: bytes, server: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    server["body"] = tiny
    monkeypatch.setenv(finder.ENVIRONMENT, str(tmp_path / "new"))
    source = locate.resolve("cifar100", None, allow_download=True, allow_generated=False)
    assert (source.kind, source.folder, source.note) == ("cifar100", tmp_path / "new/cifar-100-python", "")
    assert source.md5s == locate.FILES
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["cifar-100-python"]
    assert socket.getdefaulttimeout() is None


def test_a_download_cut_off_leaves_nothing(tiny: bytes, server: dict[str, bytes]) -> None:
    server["body"] = tiny[:-9]
    with pytest.raises(MissingInput, match=r"downloading .* failed"):
        locate.resolve("cifar100", None, allow_download=True, allow_generated=False)
    assert list(Path("data").iterdir()) == []
    assert locate.find_cifar100(None) is None


def test_a_folder_that_cannot_be_written_is_a_storage_error() -> None:
    Path("data").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        locate.resolve("cifar100", None, allow_download=True, allow_generated=True)
    assert finder.ENVIRONMENT in caught.value.fix


def test_without_a_network_the_generated_set_stands_in_and_says_so() -> None:
    source = locate.resolve("cifar100", None, allow_download=True, allow_generated=True)
    assert (source.kind, source.folder) == ("generated", None)
    assert locate.URL in source.note
    assert "generated images stand in" in source.note
    assert "\n" not in source.note


def test_where_nothing_may_stand_in_the_error_says_where_to_put_the_files(tmp_path: Path) -> None:
    with pytest.raises(MissingInput) as caught:
        locate.resolve("cifar100", None, allow_download=False, allow_generated=False)
    assert "data" in caught.value.message
    assert finder.ENVIRONMENT in caught.value.message
    assert "data/cifar-100-python" in caught.value.fix
    assert "--data-dir" in caught.value.fix
    assert caught.value.exit_code == 3


def test_a_silent_server_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(locate, "URL", f"http://127.0.0.1:{silent.getsockname()[1]}/a.tar.gz")
        began = time.monotonic()
        with pytest.raises(locate.DownloadFailed, match=r"timed out|no answer"):
            locate.download(Path("data"))
        assert time.monotonic() - began < 3


def test_a_name_resolution_that_hangs_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*arguments: object, **named: object) -> list[object]:
        released.wait(10)
        raise OSError("no such host")

    monkeypatch.setattr(locate, "TIMEOUT", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    began = time.monotonic()
    with pytest.raises(locate.DownloadFailed, match=r"no answer within 0\.1 s"):
        locate.download(Path("data"))
    assert time.monotonic() - began < 3
    released.set()


def test_names_that_are_asked_for() -> None:
    asked = locate.resolve("generated", None, allow_download=False, allow_generated=False)
    assert asked.kind == "generated"
    assert "NOT CIFAR-100" in asked.note
    with pytest.raises(UsageError, match="unknown data set 'cifar10'") as caught:
        locate.resolve("cifar10", None, allow_download=False, allow_generated=False)
    assert "cifar100" in caught.value.fix


def test_finding_data_needs_no_torch() -> None:
    code = (
        "import sys; from benchmark.data import locate;"
        "locate.resolve('cifar100', None, False, True); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
