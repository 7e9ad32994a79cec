# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes as many OOM kills at once as its argument says, and prints who was killed because of whom, and where.

Each kill has a cgroup of its own with two processes: one holds memory and is the likeliest victim, the other takes more
when all are ready, and survives. Needs a cgroup to make others in: systemd-run --property=Delegate=yes.
"""

import json
import mmap
import os
import pathlib
import signal
import sys

LIMIT, HOLD, TAKE = 16 << 20, 8 << 20, 12 << 20
HERE = pathlib.Path("/sys/fs/cgroup" + pathlib.Path("/proc/self/cgroup").read_text().split("::")[1].strip())


def divide() -> None:
    """Move this process into a leaf, without which no cgroup here may have a limit."""
    leaf = HERE / "burst"
    leaf.mkdir()
    (leaf / "cgroup.procs").write_text(str(os.getpid()))
    (HERE / "cgroup.subtree_control").write_text("+memory")


def start(folder: pathlib.Path, name: str, score: int, act) -> int:
    pid = os.fork()
    if pid:
        return pid
    (folder / "cgroup.procs").write_text("0")
    pathlib.Path("/proc/self/oom_score_adj").write_text(str(score))
    pathlib.Path("/proc/self/comm").write_text(name)
    act()
    os._exit(0)


def touch(size: int) -> mmap.mmap:
    """Memory of this process's own, all at once: page by page, Python takes seconds on an emulated processor."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = bytes(size)
    return memory


def kills(holder: int, taker: int, cgroup: str) -> list:
    """What was killed in one cgroup. The taker dies as well where the holder's memory came free too late for it."""
    ends = {taker: os.waitpid(taker, 0)[1]}
    os.kill(holder, signal.SIGTERM)
    ends[holder] = os.waitpid(holder, 0)[1]
    return [{"victim": pid, "trigger": taker, "cgroup": cgroup} for pid, end in ends.items() if end == signal.SIGKILL]


def main() -> None:
    divide()
    ready, tell = os.pipe()
    gate, opener = os.pipe()

    def hold() -> None:
        os.close(opener)
        _memory = touch(HOLD)
        os.write(tell, b"x")
        signal.pause()

    def take() -> None:
        os.close(opener)
        os.write(tell, b"x")
        os.read(gate, 1)
        touch(TAKE)

    groups = []
    for number in range(int(sys.argv[1])):
        folder = HERE / str(number)
        folder.mkdir()
        (folder / "memory.max").write_text(str(LIMIT))
        holder = start(folder, "burst-holder", 1000, hold)
        taker = start(folder, "burst-taker", 0, take)
        groups.append((holder, taker, "/" + str(folder.relative_to("/sys/fs/cgroup"))))
    for _each in 2 * groups:
        os.read(ready, 1)
    os.close(opener)
    json.dump([kill for group in groups for kill in kills(*group)], sys.stdout)


if __name__ == "__main__":
    main()
