"""Files that users bring: special files, sizes and encodings are told apart before anything is read."""

import gzip
import os
import socket
from pathlib import Path

import pytest

from cnn_keras.data.files import input_file
from cnn_keras.errors import Fault


def test_a_regular_file_is_read(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"\0\xff")
    assert input_file.read_bytes(tmp_path / "a") == b"\0\xff"


def special_files(folder: Path):
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
    (folder / "link").symlink_to(folder / "pipe")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "sparse").touch()
    os.truncate(folder / "sparse", input_file.SIZE_LIMIT + 1)
    return [
        folder,
        *(folder / name for name in ("pipe", "socket", "link", "device", "sparse", "absent", "n" * 300, "\0")),
    ]


def test_what_is_no_regular_file_of_bounded_size_raises_an_oserror_unopened(tmp_path: Path):
    for path in special_files(tmp_path):
        with pytest.raises(OSError, match=r"regular file|bytes|No such|too long|null byte"):
            input_file.read_bytes(path)
        assert path.name == "sparse" or not input_file.is_regular(path)


def test_what_is_compressed_is_bounded_and_its_check_sums_are_compared():
    data = bytes(range(256)) * 40
    packed = gzip.compress(data)
    assert input_file.decompress(packed + gzip.compress(b"more") + bytes(8)) == data + b"more"
    assert input_file.decompress(packed, limit=len(data)) == data
    for broken, said in (
        (packed[:-4], "end too early"),
        (packed[:-8] + bytes(8), "broken"),
        (b"\x1f\x8bno", "broken"),
    ):
        with pytest.raises(OSError, match=said):
            input_file.decompress(broken)
    with pytest.raises(OSError, match="at most 10,239 bytes"):
        input_file.decompress(packed, limit=len(data) - 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_is_decoded_by_its_byte_order_mark(tmp_path: Path, encoding: str):
    (tmp_path / "a.txt").write_bytes("Käse\r\n石\n".encode(encoding))
    assert input_file.read_text(tmp_path / "a.txt") == "Käse\n石\n"


@pytest.mark.parametrize("data", ["Käse".encode("latin-1"), "标签".encode("gbk"), b"\xff\xfe\0"])
def test_other_text_is_a_fault_of_the_data_that_names_the_file(tmp_path: Path, data: bytes):
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(Fault, match=r"a\.txt") as raised:
        input_file.read_text(tmp_path / "a.txt")
    assert raised.value.code == Fault.DATA


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "9" * 5_000, "{'a': 1}"])
def test_what_is_no_bearable_json_is_a_fault_of_the_data(tmp_path: Path, text: str):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(Fault, match=r"a\.json") as raised:
        input_file.read_json(tmp_path / "a.json")
    assert raised.value.code == Fault.DATA
