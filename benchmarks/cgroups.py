# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time to read 5,000 cgroups with every key, against `cat` of the very same files.

The cgroups are real ones of this host, made in each hierarchy that is read (memory, pids, hugetlb, as far as they are
here) and removed afterwards; needs root. Whole processes in pairs; the ratio is the median of the pairs' ratios. The
reader hands every cgroup to json.dumps in the second row, and drops it in the first.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, ".collections"))
from ansible_collections.oom.forensics.plugins.module_utils import _cgroup_options
from ansible_collections.oom.forensics.plugins.module_utils._host import cgroup_memory, hierarchies, run

BAR, MOST_MIB = 2.0, 64
IN_ONE = 100  # cgroups below one parent, it included
READ = """
import json, sys
sys.path.insert(0, {path!r})
from ansible_collections.oom.forensics.plugins.module_utils import _cgroup_options
from ansible_collections.oom.forensics.plugins.module_utils._host import cgroupfs, run
cgroups, coverage = cgroupfs.read(run.Host(), with_stat=_cgroup_options.STAT, with_pressure=True)
write = {write}
for cgroup in cgroups:
    write(cgroup)
# Not getrusage: its peak counts the process that this one was forked from.
rss = next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(coverage["cgroups_returned"], coverage["vanished"] + coverage["unreadable"], rss)
"""
HEAD = ("run", "cat", "reader", "ratio", "bar", "RSS MiB", "bar", "cgroups", "lost")
WRITES = (("read", "lambda cgroup: None"), ("and as JSON", "lambda cgroup: sys.stderr.write(json.dumps(cgroup))"))


def make(trees, count, made):
    """Make cgroups named as Docker's in every hierarchy; notes each one in `made` at once, for the removal."""
    top = "oom-forensics-bench-%d" % os.getpid()
    for tree in trees:
        folder = os.path.join(tree.folder, top)
        for number in range(count):
            if number % IN_ONE == 0:
                parent = os.path.join(folder, "parent%d" % (number // IN_ONE)) if number else folder
                add(parent, tree, made)
            else:
                add(os.path.join(parent, "%064x" % number), None, made)


def add(folder, parent_of, made):
    os.mkdir(folder)
    made.append(folder)
    control = os.path.join(folder, "cgroup.subtree_control")
    if parent_of and parent_of.version == 2:
        with open(os.path.join(folder, "cgroup.controllers")) as stream:
            offered = set(stream.read().split()) & {"memory", "pids", "hugetlb"}
        with open(control, "w") as stream:
            stream.write(" ".join("+" + name for name in sorted(offered)))


def read_files(trees):
    """Every file that the reader reads, found by its own tables."""
    memory = cgroup_memory.wanted(trees.memory.version, _cgroup_options.STAT, True)
    found = [listed(trees.memory.folder + path, memory) for path in paths(trees.memory.folder)]
    for tree in trees.beside:
        wanted = cgroup_memory.beside(True)
        found += [listed(tree.folder + path, wanted) for path in paths(trees.memory.folder)]
    return [path for folder in found for path in folder]


def paths(top):
    return [folder[len(top) :] for folder, _folders, _files in os.walk(top)]


def listed(folder, wanted):
    names = os.listdir(folder) if os.path.isdir(folder) else []
    hugetlb = cgroup_memory.hugetlb_file
    return [os.path.join(folder, x) for x in names if x in wanted or (x.startswith("hugetlb.") and hugetlb(x))]


def timed(argv, **options):
    start = time.perf_counter()
    # cat complains where one of the host's other cgroups went meanwhile.
    done = subprocess.run(argv, stderr=subprocess.DEVNULL, cwd=ROOT, check=argv[0] != "xargs", **options)
    return time.perf_counter() - start, done.stdout


def cat(names):
    names.seek(0)
    return timed(["xargs", "-0", "cat"], stdin=names, stdout=subprocess.DEVNULL)


def read(write):
    code = READ.format(path=os.path.join(ROOT, ".collections"), write=write)
    return timed([sys.executable, "-c", code], stdout=subprocess.PIPE)


def measure(trees, rounds):
    files = read_files(trees)
    with tempfile.TemporaryFile() as names:
        names.write(b"\0".join(map(os.fsencode, files)))
        names.flush()
        cat(names)
        print("%d files; hierarchies: %s" % (len(files), " ".join([trees.mount] + [x.folder for x in trees.beside])))
        print("%-12s %8s %8s %7s %5s %8s %5s %8s %5s" % HEAD)
        for name, write in WRITES:
            pairs = [(cat(names), read(write)) for _round in range(rounds)]
            ratio = statistics.median(two[0] / one[0] for one, two in pairs)
            seconds = [statistics.median(pair[side][0] for pair in pairs) for side in (0, 1)]
            cgroups, lost, rss = pairs[0][1][1].split()
            row = (name, *seconds, ratio, BAR, int(rss), MOST_MIB, int(cgroups), int(lost))
            print("%-12s %7.2fs %7.2fs %7.3f %5s %8d %5d %8d %5d" % row)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cgroups", type=int, default=5000)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    if os.geteuid():
        raise SystemExit("This benchmark makes cgroups, which only root may do; run it as root.")
    trees = hierarchies.find(run.Host())
    made = []
    try:
        make((trees.memory, *trees.beside), options.cgroups, made)
        measure(trees, options.rounds)
    finally:
        for folder in reversed(made):
            os.rmdir(folder)


if __name__ == "__main__":
    main()
