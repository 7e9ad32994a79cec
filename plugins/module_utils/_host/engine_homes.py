# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of engines that users run for themselves. Private to this collection.

The user may put anything there, at any moment: a link to a file that only root may read, a pipe, millions of files.
So no link below the home is followed, only regular files of the user's own are read, and each home has its bounds.
"""

import contextlib
import itertools
import os
import re
import stat
import time
from typing import Any, Callable, Dict, Iterator, List, Optional

from . import engine_rows as rows
from . import run

SECONDS = 2.0
BYTES = 16 * 1024 * 1024
CONTAINERS = 500
_HOMES = 200
_LARGEST = 2 * 1024 * 1024
_NAMES = 5000
_NUMBER = re.compile(r"[0-9]{1,10}")


class Home:
    """The home of one user. Nothing in it raises; ``error`` is a sentence once one of the bounds was met.

    ``uid`` is null for root's own home: what stands there is as good as what the host's engines say.
    """

    def __init__(self, host: run.Host, directory: str, uid: int) -> None:
        self.uid = uid or None
        self.error: Optional[str] = None
        self._host = host
        self._directory = directory
        # Who unpacks a copied tree may become the owner of all that is in it.
        self._owner = uid if run.live(host) else _owner(host, directory)
        self._bytes = BYTES
        self._seconds = SECONDS
        self._deadline = 0.0

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """The time in which there is anything to read; what is done with it meanwhile counts too."""
        self._deadline = time.monotonic() + self._seconds
        yield
        self._seconds = self._deadline - time.monotonic()

    def names(self, path: str) -> List[str]:
        """Sorted names in a directory below the home."""
        return self._read(self._names, path) or []

    def json(self, path: str) -> Any:
        """The JSON of a file of the user's own below the home; None where it is none."""
        return self._read(self._json, path)

    def cut(self) -> None:
        """Note that there is more than what is read."""
        self.error = "The containers of {0} are not all known: more than {1} of them, {2} MiB or {3:g} seconds.".format(
            self._directory, CONTAINERS, BYTES // 1024 // 1024, SECONDS
        )

    def _read(self, read: Callable[[int], Any], path: str) -> Any:
        if time.monotonic() >= self._deadline or self._bytes <= 0:
            self.cut()
            return None
        try:
            found = run.descend(self._host, self._directory, path)
        except OSError:
            return None
        try:
            return read(found)
        except OSError:
            return None
        finally:
            os.close(found)

    def _names(self, found: int) -> List[str]:
        # Python 3.6 scans no descriptor; and a whole list could have millions of names.
        with os.scandir("/proc/self/fd/{0}".format(found)) as entries:
            listed = [entry.name for entry in itertools.islice(entries, _NAMES + 1)]
        if len(listed) > _NAMES:
            self.cut()
        return sorted(listed[:_NAMES])

    def _json(self, found: int) -> Any:
        about = os.fstat(found)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != self._owner:
            return None
        limit = min(_LARGEST, self._bytes)
        with open(found, "rb", closefd=False) as stream:
            data = stream.read(limit)
        self._bytes -= len(data)
        if about.st_size > limit:
            self.cut()
        return rows.parsed(data)


def _owner(host: run.Host, directory: str) -> Optional[int]:
    try:
        return os.stat(run.below(host, directory)).st_uid
    except OSError:
        return None


def homes(host: run.Host) -> List[Home]:
    """Homes of the users in /etc/passwd who may run an engine of their own.

    On the running machine only of those who have a runtime directory, without which no rootless engine runs: the
    homes of the others may be on a file server that is away, and whoever looks there would hang.
    """
    lines = (line.split(":") for line in (run.read_text(host, "/etc/passwd") or "").splitlines())
    users = (words for words in lines if len(words) == 7 and _NUMBER.fullmatch(words[2]))
    present = set(run.names(host, "/run/user"))
    everybody = not run.live(host)
    found: Dict[Any, None] = {}
    for _name, _password, uid, _gid, _about, home, _shell in users:
        if (everybody or uid in present) and home.startswith("/") and len(home) > 1:
            found[(home, int(uid))] = None
    return [Home(host, home, uid) for home, uid in sorted(found)[:_HOMES]]
