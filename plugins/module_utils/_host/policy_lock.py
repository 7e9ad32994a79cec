# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of a memory policy at a time changes a host: a lock beside the record. Private to this collection."""

import contextlib
import fcntl
import os
import stat
import time
from typing import Iterator

from .policy_record import RecordError, Store, path_of, unwritable, write

_POLL_SECONDS = 0.1
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


@contextlib.contextmanager
def locked(store: Store, seconds: float) -> Iterator[None]:
    """Make the directory where it is missing, and be the only run that changes this host. Raises RecordError.

    :arg seconds: how long to wait for another run.
    """
    _make(store)
    path = path_of(store, "lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        _take(descriptor, store, seconds)
        write(descriptor, path, b"%d\n" % os.getpid())
        yield
    finally:
        os.close(descriptor)  # which unlocks; so does the end of this process, whatever ends it


def _take(descriptor: int, store: Store, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise RecordError(
                    "Another run of a memory policy (pid {0}) is changing this host and did not end within {1:g} s. "
                    "Nothing was done; run the task again, or let it wait longer (lock_timeout).".format(
                        os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown", seconds
                    )
                ) from None
        except OSError as error:  # a file system without locks
            raise unwritable(path_of(store, "lock"), error) from error
        time.sleep(_POLL_SECONDS)


def busy(store: Store) -> bool:
    """Whether another run is changing this host now. Nothing is written."""
    try:
        descriptor = os.open(path_of(store, "lock"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False  # no run was ever made, or none may be made here by this user
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _make(store: Store) -> None:
    """The directories, for this user alone: what is undone comes from there, and is done as root."""
    folder = path_of(store)
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o700)
        found = os.stat(folder)
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & _OTHERS_MAY_WRITE:
            raise RecordError(
                "{0} belongs to user {1} with mode {2:o}, so others could write what a rollback does. Make it root's "
                "with mode 0700, or name another directory (state_path).".format(
                    folder, found.st_uid, stat.S_IMODE(found.st_mode)
                )
            )
        os.makedirs(path_of(store, "runs"), exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
