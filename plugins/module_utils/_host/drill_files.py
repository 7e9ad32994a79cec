# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's files that a drill looks at: what they are called in either cgroup version, and how they are read.

Private to this collection.
"""

from typing import Dict, NamedTuple, Optional, Sequence, Tuple

MIB = 1 << 20


class _Files(NamedTuple):
    """The files of one cgroup version: names, the keys of the counters in them.

    ``swap``: files to write, with (times the limit, plus bytes). ``property``: the limit's name in systemd.
    """

    limit: str
    usage: str
    cache: str
    swap: Sequence[Tuple[str, int, int]]
    kills: Tuple[str, Optional[str]]
    hits: Tuple[str, Optional[str]]
    property: str


FILES: Dict[int, _Files] = {
    # Swappiness 0 keeps a v1 cgroup off swap altogether. memsw (memory and swap together; absent without swap
    # accounting) bounds it once more, one MiB above, so that memory.failcnt is what counts the hits.
    1: _Files(
        limit="memory.limit_in_bytes",
        usage="memory.usage_in_bytes",
        cache="total_inactive_file",
        swap=(("memory.swappiness", 0, 0), ("memory.memsw.limit_in_bytes", 1, MIB)),
        kills=("memory.oom_control", "oom_kill"),
        hits=("memory.failcnt", None),
        # systemd knows MemoryMax= since 231; MemoryLimit= is what every version maps to cgroup v1.
        property="MemoryLimit",
    ),
    2: _Files(
        limit="memory.max",
        usage="memory.current",
        cache="inactive_file",
        swap=(("memory.swap.max", 0, 0),),
        kills=("memory.events", "oom_kill"),
        hits=("memory.events", "max"),
        property="MemoryMax",
    ),
}


def read(path: str) -> Optional[str]:
    """The text of a small kernel file, null where it does not exist or cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except OSError:
        return None


def number(path: str, key: Optional[str] = None) -> Optional[int]:
    """A number of a kernel file: the whole content, or the second column of the line that starts with ``key``."""
    for line in (read(path) or "").splitlines():
        words = line.replace(":", " ").split()
        value = words[0] if words and key is None else words[1] if len(words) > 1 and words[0] == key else ""
        if value.isdigit():
            return int(value)
    return None
