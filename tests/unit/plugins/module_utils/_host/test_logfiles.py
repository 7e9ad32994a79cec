# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which log files are read, in what order, and what becomes of archives, damaged ones too."""

import bz2
import gzip
import lzma
import os
import shutil
import subprocess

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import coverage, logfiles, run

TEXT = b"".join(b"Nov 22 21:50:%02d gw kernel: [ 1539.%06d] line %d\n" % (n % 60, n, n) for n in range(12000))


def write(path, data, age=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(str(path), (1795384675 - age, 1795384675 - age))
    return path


def read(root, path):
    about = coverage.row("file", path)
    return b"".join(logfiles.read(run.Host(str(root)), path, about)), about


def test_rotated_logs_oldest_first(tmp_path):
    ages = {
        "kern.log": 0,
        "kern.log.1": 100,
        "kern.log.2.gz": 200,
        "messages-20261101.xz": 300,
        "messages": 1,
        "syslog.3.zst": 400,
        "warn-20261001.bz2": 500,
    }
    others = ("auth.log", "kern.log.d/inner", "dpkg.log", "mysyslog", "wtmp")
    for name, age in ages.items():
        write(tmp_path / "var" / "log" / name, b"x", age)
    for name in others:
        write(tmp_path / "var" / "log" / name, b"x")
    found = logfiles.kernel_logs(run.Host(str(tmp_path)))
    assert [log.path for log in found] == ["/var/log/" + name for name in sorted(ages, key=lambda name: -ages[name])]
    assert found[0].modified == 1795384675 - 500


def test_a_file_that_several_names_lead_to_is_read_once(tmp_path):
    write(tmp_path / "logs" / "kern.log", b"x")
    os.symlink("kern.log", str(tmp_path / "logs" / "alias"))
    os.link(str(tmp_path / "logs" / "kern.log"), str(tmp_path / "logs" / "hard"))
    found, missing = logfiles.given(run.Host(str(tmp_path)), ["/logs/alias", "/logs/*", "/logs"])
    assert [log.path for log in found] == ["/logs/alias"]
    assert missing == []


def test_given_files_patterns_and_directories(tmp_path):
    write(tmp_path / "a" / "one.log", b"x", 3)
    write(tmp_path / "a" / "two.log.1", b"x", 9)
    write(tmp_path / "a" / "system.journal", b"x")
    write(tmp_path / "a" / "user-1000@b.journal", b"x")
    write(tmp_path / "a" / "deeper" / "three.log", b"x")
    write(tmp_path / "b[1].log", b"x", 5)
    host = run.Host(str(tmp_path))
    assert [log.path for log in logfiles.given(host, ["/a"])[0]] == ["/a/two.log.1", "/a/one.log"]
    assert [log.path for log in logfiles.given(host, ["/a/*.log", "/b[1].log"])[0]] == ["/b[1].log", "/a/one.log"]
    (tmp_path / "empty").mkdir()
    os.mkfifo(str(tmp_path / "pipe"))
    os.symlink("nowhere", str(tmp_path / "dangling"))
    found, missing = logfiles.given(host, ["/gone", "/a/*.gz", "/empty", "/pipe", "/dangling"])
    assert found == []
    assert sorted(missing) == [
        ("/a/*.gz", "/a/*.gz names no file."),
        ("/dangling", "/dangling could not be read: no such file."),
        ("/empty", "/empty was not read: it is a directory without log files."),
        ("/gone", "/gone could not be read: no such file."),
        ("/pipe", "/pipe was not read: it is no regular file."),
    ]


def zstd(data):
    program = shutil.which("zstd")
    if program is None:
        pytest.skip("zstd is not installed, so no .zst file can be made")
    return subprocess.run([program, "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout


PACKERS = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
    "two gzip members": lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]),
    "two bzip2 streams": lambda data: bz2.compress(data[:1000]) + bz2.compress(data[1000:]),
    "two xz streams and padding": lambda data: (
        lzma.compress(data[:1000]) + bytes(8) + lzma.compress(data[1000:]) + bytes(4)
    ),
}


@pytest.mark.parametrize("kind", sorted(PACKERS))
def test_contents_decide_not_the_name(tmp_path, kind):
    write(tmp_path / "log", PACKERS[kind](TEXT))
    data, about = read(tmp_path, "/log")
    assert data == TEXT
    assert about["error"] is None


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_a_cut_archive_gives_what_is_there(tmp_path, kind):
    packed = PACKERS[kind](TEXT * (1 if kind != "bzip2" else 4))
    write(tmp_path / "log", packed[: len(packed) * 3 // 4])
    data, about = read(tmp_path, "/log")
    assert (TEXT * 4).startswith(data)
    assert data or kind in ("xz", "zstd")
    assert about["error"].startswith("/log could be decompressed only in part: ")


def test_a_damaged_archive_gives_what_is_before_the_damage(tmp_path):
    packed = bytearray(gzip.compress(TEXT))
    packed[len(packed) // 2 : len(packed) // 2 + 64] = bytes(64)
    write(tmp_path / "log", bytes(packed))
    data, about = read(tmp_path, "/log")
    assert len(data) > len(TEXT) // 10
    assert about["error"].startswith("/log could be decompressed only in part: ")


@pytest.mark.parametrize("head", [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00"])
def test_a_file_that_only_begins_like_an_archive(tmp_path, head):
    write(tmp_path / "log", head + b" is how it starts\n")
    data, about = read(tmp_path, "/log")
    assert data == b""
    assert "decompressed only in part" in about["error"]


def test_a_bomb_comes_in_chunks_of_bounded_size(tmp_path):
    write(tmp_path / "log", gzip.compress(bytes(50000000)))
    sizes = list(map(len, logfiles.read(run.Host(str(tmp_path)), "/log", coverage.row("file", "/log"))))
    assert sum(sizes) == 50000000
    assert max(sizes) <= run.CHUNK


def test_an_empty_file(tmp_path):
    write(tmp_path / "log", b"")
    assert read(tmp_path, "/log")[0] == b""


def test_a_file_that_went_away(tmp_path):
    with pytest.raises(coverage.Unreadable, match="/log could not be opened: no such file."):
        read(tmp_path, "/log")


def test_a_directory_in_its_place(tmp_path):
    (tmp_path / "log").mkdir()
    with pytest.raises(coverage.Unreadable, match="/log was not read: it is no regular file."):
        read(tmp_path, "/log")


def test_zst_without_a_program(tmp_path):
    write(tmp_path / "log", b"\x28\xb5\x2f\xfd rest")
    host = run.Host(str(tmp_path), which=lambda name: None)
    with pytest.raises(coverage.Unreadable) as caught:
        list(logfiles.read(host, "/log", coverage.row("file", "/log")))
    assert "no zstd program" in caught.value.error
    assert caught.value.advice.startswith("Install zstd")


def test_a_python_without_lzma(tmp_path, monkeypatch):
    def absent():
        raise ImportError("No module named '_lzma'", name="_lzma")

    monkeypatch.setattr(logfiles, "_DECODERS", ((b"\xfd7zXZ\x00", absent),))
    write(tmp_path / "log", lzma.compress(TEXT))
    with pytest.raises(coverage.Unreadable, match="built without _lzma"):
        read(tmp_path, "/log")


def test_a_file_that_the_user_may_not_read(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise PermissionError(13, "Permission denied")

    write(tmp_path / "log", TEXT)
    monkeypatch.setattr(logfiles.os, "open", refuse)
    with pytest.raises(coverage.Unreadable) as caught:
        read(tmp_path, "/log")
    assert caught.value.error == "/log could not be opened: permission denied."
    assert "become: true" in caught.value.advice
