# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's ring buffer, read from /dev/kmsg. Private to this collection."""

import errno
import os
import re
import stat
import time
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from . import run
from .coverage import Unreadable

PATH = "/dev/kmsg"
_RECORD = 64 * 1024  # a record has at most some KiB; a shorter buffer gives EINVAL
_BATCH = 128 * 1024
_SECONDS = 30.0
_CLOCKS_APART_USEC = 1000000
_HEADER = re.compile(rb"\d+,(\d+),(\d+)[,;]")
_NEVER_THERE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)
_ADVICE = (
    "Read the kernel's ring buffer as root (become: true) or with CAP_SYSLOG; "
    "/dev/kmsg is root's where kernel.dmesg_restrict is 1."
)


def read(host: run.Host, about: Dict[str, Any]) -> Iterator[bytes]:
    """Records of the ring buffer from its oldest on, as text in batches; fills `overrun` and `missed` of the row.

    Never waits, and ends where it began to read: a writer that floods the buffer cannot hold it.
    Raises Unreadable before the first record.
    """
    path = run.below(host, PATH)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(error) from error
    try:
        if stat.S_ISREG(os.fstat(handle).st_mode):  # a copied tree
            until = None
        else:
            until = int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1000000) + _CLOCKS_APART_USEC
        yield from batches(lambda: os.read(handle, _RECORD), about, until)
    finally:
        os.close(handle)


def _unreadable(error: OSError) -> Unreadable:
    sentence = "The kernel's ring buffer {0} could not be opened: {1}.".format(PATH, run.reason(error))
    denied = error.errno in (errno.EPERM, errno.EACCES)
    return Unreadable(sentence, _ADVICE if denied else None, exists=error.errno not in _NEVER_THERE)


def batches(
    read_record: Callable[[], bytes],
    about: Dict[str, Any],
    until_usec: Optional[int],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[bytes]:
    """Join what ``read_record`` gives until it is empty, would block, or a record is newer than ``until_usec``.

    EPIPE says that the oldest records were overwritten while reading: the next read goes on behind the gap.
    """
    about.update(overrun=False, missed=0)
    expected = 0
    batch, size = [], 0
    deadline = clock() + _SECONDS
    while True:
        try:
            record = read_record()
        except OSError as error:
            if error.errno == errno.EPIPE:
                continue
            if error.errno == errno.EINTR:
                continue
            if error.errno != errno.EAGAIN:
                about["error"] = "Reading {0} stopped half-way: {1}.".format(PATH, run.reason(error))
            break
        if not record:
            break
        header = _HEADER.match(record)
        if header and until_usec is not None:
            sequence, usec = int(header.group(1)), int(header.group(2))
            if sequence > expected:
                about.update(overrun=True, missed=about["missed"] + sequence - expected)
            expected = sequence + 1
            if usec > until_usec:
                break
        batch.append(record)
        size += len(record)
        if size >= _BATCH:
            yield b"".join(batch)
            batch, size = [], 0
            if clock() > deadline:
                about["error"] = "Reading {0} was ended after {1:.0f} s: it fills faster than it is read.".format(
                    PATH, _SECONDS
                )
                break
    if batch:
        yield b"".join(batch)


class Span:
    """What the kernel prints from now until :meth:`end`, on printk's own clock, which no other clock follows.

    That runs with the bare machine's counter or with the hypervisor's clock, slewed or not, by the machine.
    """

    def __init__(self, host: run.Host) -> None:
        self._host = host
        self._from = _behind_the_last(host)
        self._until: Optional[int] = None

    def end(self) -> None:
        self._until = _behind_the_last(self._host)

    def bounds(self) -> Optional[Tuple[float, float]]:
        """The stamps of the first records behind the beginning and behind the end, in microseconds; infinite: none yet.

        None where the ring buffer cannot be read, or these records were overwritten. To be asked once.
        """
        first, after = _stamp(self._from), _stamp(self._until)
        return None if first is None or after is None else (first, after)


def _behind_the_last(host: run.Host) -> Optional[int]:
    """The ring buffer, opened behind its last record."""
    try:
        handle = os.open(run.below(host, PATH), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(handle, 0, os.SEEK_END)
    except OSError:
        return None
    return handle


def _stamp(handle: Optional[int]) -> Optional[float]:
    """The stamp of the next record."""
    if handle is None:
        return None
    try:
        header = _HEADER.match(os.read(handle, _RECORD))
    except BlockingIOError:
        return float("inf")
    except OSError:
        return None
    finally:
        os.close(handle)
    return float(header.group(2)) if header else None
