# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ring buffer's reader: what it answers to the kernel's error numbers, and where it stops."""

import errno
import os

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import coverage, kmsg, run
from ansible_collections.oom.forensics.plugins.module_utils._oom import events


def record(sequence, usec, text=b"x"):
    return b"6,%d,%d,-;%s\n" % (sequence, usec, text)


def reader(steps):
    """A read() that gives records and raises error numbers in turn, then EAGAIN as the kernel does at the end."""
    queue = list(steps)

    def read():
        step = queue.pop(0) if queue else errno.EAGAIN
        if isinstance(step, int):
            raise OSError(step, os.strerror(step))
        return step

    return read


def read(steps, until=10**9, clock=lambda: 0.0):
    about = coverage.row("kmsg", kmsg.PATH)
    return b"".join(kmsg.batches(reader(steps), about, until, clock)), about


def test_everything_from_the_first_record_to_eagain():
    data, about = read([record(0, 1), record(1, 2)])
    assert data == record(0, 1) + record(1, 2)
    assert (about["overrun"], about["missed"], about["error"]) == (False, 0, None)


def test_records_that_were_overwritten_before():
    _data, about = read([record(7251, 1), record(7252, 2)])
    assert (about["overrun"], about["missed"]) == (True, 7251)


def test_records_that_are_overwritten_while_reading():
    data, about = read([record(0, 1), errno.EPIPE, record(41, 5)])
    assert data.endswith(record(41, 5))
    assert (about["overrun"], about["missed"]) == (True, 40)


def test_an_interrupted_read_goes_on():
    assert read([errno.EINTR, record(0, 1)])[0] == record(0, 1)


def test_a_read_error_half_way_keeps_what_came_before():
    data, about = read([record(0, 1), errno.EIO])
    assert data == record(0, 1)
    assert about["error"] == "Reading /dev/kmsg stopped half-way: input/output error."


def test_a_flood_does_not_hold_the_reader():
    endless = iter(range(10**9))
    about = coverage.row("kmsg", kmsg.PATH)

    def flood():
        number = next(endless)
        return record(number, number * 100)

    data = b"".join(kmsg.batches(flood, about, 50000))
    assert data.count(b"\n") == 501


def test_a_flood_whose_clock_stands_still_ends_too():
    ticks = iter(range(10**9))
    about = coverage.row("kmsg", kmsg.PATH)
    numbers = iter(range(10**9))
    data = b"".join(kmsg.batches(lambda: record(next(numbers), 5, b"y" * 900), about, 50, lambda: 10.0 * next(ticks)))
    assert 0 < len(data) < 2000000
    assert "fills faster" in about["error"]


@pytest.mark.parametrize(
    "number, sentence, advice, exists",
    [
        (errno.EPERM, "operation not permitted", True, True),
        (errno.EACCES, "permission denied", True, True),
        (errno.ENOENT, "no such file", False, False),
    ],
)
def test_what_the_user_is_told(monkeypatch, number, sentence, advice, exists):
    def refuse(*_arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(kmsg.os, "open", refuse)
    with pytest.raises(coverage.Unreadable) as caught:
        list(kmsg.read(run.Host(), coverage.row("kmsg", None)))
    assert caught.value.error == "The kernel's ring buffer /dev/kmsg could not be opened: {0}.".format(sentence)
    assert caught.value.exists is exists
    assert ("root" in (caught.value.advice or "")) is advice


def test_a_copied_buffer(tmp_path):
    (tmp_path / "dev").mkdir()
    kill = b"Out of memory: Killed process 5 (a) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB, UID:0"
    (tmp_path / "dev" / "kmsg").write_bytes(record(3, 5000000, b"boot") + record(4, 6000000, kill))
    about = coverage.row("kmsg", kmsg.PATH)
    context = events.Context(source="kmsg", boot_time=1000.0)
    found = list(events.parse(coverage.counted(kmsg.read(run.Host(str(tmp_path)), about), about, context), context))
    assert [event["victims"][0]["pid"] for event in found] == [5]
    assert (about["first_time"], about["last_time"]) == ("1970-01-01T00:16:45.000000Z", "1970-01-01T00:16:46.000000Z")
    assert about["records"] == 2


def test_span_of_no_ring_buffer():
    span = kmsg.Span(run.Host(root="/nonexistent"))
    span.end()
    assert span.bounds() is None


@pytest.mark.parametrize(
    "step,expected",
    [
        (record(7, 42), 42.0),
        (b"6,7,43,c,caller=T1;x\n", 43.0),
        (errno.EAGAIN, float("inf")),
        (errno.EPIPE, None),
        (b"", None),
    ],
)
def test_next_stamp(monkeypatch, step, expected):
    read_record = reader([step])
    monkeypatch.setattr(kmsg.os, "read", lambda handle, size: read_record())
    monkeypatch.setattr(kmsg.os, "close", lambda handle: None)
    assert kmsg._stamp(99) == expected
