# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time to read a journal of one million kernel records, against `journalctl _TRANSPORT=kernel -o cat` itself.

The journal is made with systemd-journal-remote from firewall lines with 1 % OOM lines, in the reports captured
in tests/fixtures, a record every second on average. Whole processes in pairs; the ratio is the median of the
pairs' ratios. The second run reads on from the cursor of the first.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FIXTURES = os.path.join(ROOT, "tests", "fixtures", "vm-6.1")
REPORTS = ("a1-docker-memcg-8m-pid1", "b2-systemd-service-OOMPolicy-kill", "d1-global-session")
REMOTE = "/lib/systemd/systemd-journal-remote"
BAR = 1.5
COLLECT = """
import resource, sys
sys.path.insert(0, {path!r})
from ansible_collections.oom.forensics.plugins.module_utils._host import collect, run
found = collect.collect_events(
    run.Host(), sources=["journal"], journal_directory={journal!r}, cursor={cursor!r}, max_events=100000, max_tasks=20
)
source = found["coverage"]["sources"][0]
kills = sum(event["kill_lines"] for event in found["events"])
rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(kills, source["records"], rss, found["coverage"]["journal_cursor"])
"""
HEAD = (
    b"__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=432c69a208204df2a4fcf603ea86771e\n_TRANSPORT=kernel\n"
    b"SYSLOG_FACILITY=0\nSYSLOG_IDENTIFIER=kernel\n_MACHINE_ID=283fc4a71a0e40c88f847d5a41f03fe9\n_HOSTNAME=gw\n"
    b"PRIORITY=4\n_SOURCE_MONOTONIC_TIMESTAMP=%d\n"
)
FIREWALL = (
    b"MESSAGE=[UFW BLOCK] IN=eth0 OUT= MAC=52:54:00:12:34:56:52:55:0a:00:02:02:08:00 SRC=%d.%d.%d.%d DST=10.0.2.15 "
    b"LEN=%d TOS=0x00 PREC=0x00 TTL=%d ID=%d PROTO=TCP SPT=%d DPT=%d WINDOW=1024 RES=0x00 SYN URGP=0\n"
)
RANGES = (224, 256, 256, 256, 60, 255, 65536, 65536, 65536)


def report(name):
    """The MESSAGE fields of one captured report, as the export format writes them."""
    sys.path.insert(0, os.path.join(ROOT, ".collections"))
    from ansible_collections.oom.forensics.plugins.module_utils._oom import records

    with open(os.path.join(FIXTURES, name, "journal-k.export"), "rb") as stream:
        texts = [text for rows in records.export_rows([stream.read()]) for text in rows.texts]
    begin = next(number for number, text in enumerate(texts) if "invoked oom-killer" in text)
    end = next(number for number, text in enumerate(texts) if number > begin and "Killed process" in text)
    return [field(text.encode("utf-8", "surrogateescape")) for text in texts[begin : end + 1]]


def field(message):
    if b"\n" not in message:
        return b"MESSAGE=" + message + b"\n"
    return b"MESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\n"


def build(folder, count):
    """Make the journal; returns the kills that it holds."""
    reports = [report(name) for name in REPORTS]
    chance = random.Random(1)
    share = count // 100 * len(reports) // sum(map(len, reports))
    places = set(chance.sample(range(count), share))
    os.makedirs(folder)
    remote = subprocess.Popen(
        [REMOTE, "--output", os.path.join(folder, "system.journal"), "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    usec, monotonic, written, kills = 1795384675000000, 1000000, 0, 0
    while written < count:
        messages = [FIREWALL % tuple(chance.randrange(1, top) for top in RANGES)]
        if written in places:
            messages += chance.choice(reports)
            kills += 1
        wait = chance.randrange(2000000)
        for message in messages:
            usec, monotonic, wait = usec + wait, monotonic + wait, 20
            remote.stdin.write(HEAD % (usec, monotonic, monotonic) + message + b"\n")
            places.discard(written)
            written += 1
    remote.stdin.close()
    if remote.wait():
        raise SystemExit("%s failed with status %d" % (REMOTE, remote.returncode))
    return kills


def timed(argv):
    start = time.perf_counter()
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT, env=dict(os.environ, LC_ALL="C"))
    tail = b""
    while True:
        chunk = os.read(child.stdout.fileno(), 1 << 20)
        if not chunk:
            break
        tail = (tail + chunk)[-4096:]
    if child.wait():
        raise SystemExit("%s failed with status %d" % (argv[0], child.returncode))
    return time.perf_counter() - start, tail.decode(errors="replace").rpartition("\n")[0].rpartition("\n")[2].split()


def paired(folder, rounds, cursor):
    bare = ["journalctl", "--directory", folder, "--no-pager", "_TRANSPORT=kernel", "-o", "cat"]
    code = COLLECT.format(path=os.path.join(ROOT, ".collections"), journal=folder, cursor=cursor)
    collect = [sys.executable, "-c", code]
    timed(bare)
    return [(timed(bare), timed(collect)) for _round in range(rounds)]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--records", type=int, default=1000000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--keep", help="a folder for the journal: used again if it is there")
    options = arguments.parse_args()
    folder = os.path.abspath(options.keep) if options.keep else os.path.join(ROOT, ".cache", "bench-journal")
    if not (options.keep and os.path.isdir(folder)):
        shutil.rmtree(folder, ignore_errors=True)
        print("%d kernel records with %d kills" % (options.records, build(folder, options.records)))
    try:
        print(
            "%-26s %8s %8s %7s %5s %8s %7s %8s"
            % ("run", "-o cat", "collect", "ratio", "bar", "RSS MiB", "kills", "exported")
        )
        cursor = None
        for name, most in (("everything", BAR), ("again, from the cursor", None)):
            pairs = paired(folder, options.rounds, cursor)
            ratio = statistics.median(two[0] / one[0] for one, two in pairs)
            seconds = [statistics.median(pair[side][0] for pair in pairs) for side in (0, 1)]
            kills, exported, rss, cursor = pairs[0][1][1]
            print(
                "%-26s %7.2fs %7.2fs %7.3f %5s %8s %7s %8s" % (name, *seconds, ratio, most or "", rss, kills, exported)
            )
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
