# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throughput and memory of the parser: whole processes, against a bare line loop over the same file in the same run.

Files are made from the captured reports in tests/fixtures: firewall lines with 1 % OOM lines, nothing but
reports (host and container reports in turn), and a flood of kills in three sizes. Ratios are medians of
paired runs; absolute figures depend on the machine.
"""

import argparse
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FIXTURES = os.path.join(ROOT, "tests", "fixtures", "vm-6.1")
BARE = "for line in open(%r, 'rb'): pass"
PARSE = """
import sys
sys.path.insert(0, {path!r})
from ansible_collections.oom.forensics.plugins.module_utils._oom import events
def chunks():
    with open({file!r}, 'rb', buffering=0) as stream:
        while True:
            chunk = stream.read(131072)
            if not chunk:
                return
            yield chunk
kills = sum(event['kill_lines'] for event in events.parse(chunks()))
print(kills)
"""
# What no parser in Python does without, though it be handed everything else: words out of bytes, numbers out of words,
# dicts out of both. The shapes of the dicts are those of the file's own events.
FLOOR = """
import sys, time
sys.path.insert(0, {path!r})
from ansible_collections.oom.forensics.plugins.module_utils._oom import events
with open({file!r}, 'rb') as stream:
    data = stream.read()
dicts, numbers = [], []
def take(value):
    if isinstance(value, dict):
        dicts.append((list(value), list(value.values())))
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            take(each)
    elif isinstance(value, int) and not isinstance(value, bool):
        numbers.append(str(value))
for event in events.parse([data]):
    take(event)
def bare():
    for line in open({file!r}, 'rb'):
        pass
def least():
    for line in data.splitlines():
        line.split()
    for number in numbers:
        int(number)
    for keys, values in dicts:
        dict(zip(keys, values))
for function in (bare, least):
    start = time.perf_counter()
    function()
    print(time.perf_counter() - start)
"""


def report(name):
    """The lines of a captured report as a syslog daemon writes them."""
    with open(os.path.join(FIXTURES, name, "dmesg.log"), "rb") as stream:
        lines = stream.read().splitlines(True)
    begin = next(number for number, line in enumerate(lines) if b"invoked oom" in line)
    end = max(number for number, line in enumerate(lines) if b"Killed process" in line)
    out = []
    for line in lines[begin : end + 1]:
        out.append((b"Nov 22 21:50:30 gw kernel: " if line.startswith(b"[") else b" " * 12) + line)
    return out


def firewall(path, size):
    lines = report("a1-docker-memcg-8m-pid1")
    chance = random.Random(1)
    written = number = 0
    with open(path, "wb") as out:
        while written < size:
            block = []
            for _line in range(99 * len(lines)):
                number += 1
                block.append(
                    b"Nov 22 21:50:%02d gw kernel: [%6d.%06d] DROP IN=eth0 OUT= "
                    b"MAC=52:54:00:12:34:56:52:55:0a:00:02:02:08:00 "
                    b"SRC=203.0.113.%d DST=10.0.2.15 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=%d DF PROTO=TCP SPT=%d DPT=22 "
                    b"WINDOW=64240 RES=0x00 SYN URGP=0\n"
                    % (
                        number % 60,
                        number // 1000,
                        number % 1000000,
                        chance.randrange(255),
                        chance.randrange(65536),
                        chance.randrange(65536),
                    )
                )
            block += lines
            written += out.write(b"".join(block))


def scaled(lines, factor):
    """The same report with other pids and sizes: consistent, since all are multiplied."""
    number = re.compile(rb"(?<![\w./(-])\d{3,}(?=\n|kB|[\] ,])")
    heads = [line.find(b"] ") + 2 if line.startswith(b"Nov") else 0 for line in lines]
    bodies = [
        number.sub(lambda found: b"%d" % (int(found.group()) * factor), line[head:]) for line, head in zip(lines, heads)
    ]
    return b"".join(line[:head] + body for line, head, body in zip(lines, heads, bodies))


def reports(path, size):
    """Host and container reports in turn; no two have the same times, and few the same numbers."""
    names = ("a1-docker-memcg-8m-pid1", "d1-global-session", "b2-systemd-service-OOMPolicy-kill")
    kinds = [[scaled(report(name), factor) for factor in range(1, 60)] for name in names]
    seconds = [re.search(rb"\[ *(\d+)\.", kind[0]).group(1) for kind in kinds]
    written = number = 0
    with open(path, "wb") as out:
        while written < size:
            for kind, second in zip(kinds, seconds):
                number += 1
                stamped = kind[number % len(kind)].replace(b" %s." % second, b" %d." % (1000 + number % 9000))
                clock = b" %02d:%02d:%02d " % (number // 3600 % 24, number // 60 % 60, number % 60)
                written += out.write(stamped.replace(b" 21:50:30 ", clock))


def run(code, environment):
    """One whole process: seconds, peak RSS in MiB (of this child alone), output."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, env=environment)
    output = child.stdout.read()
    _pid, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit("the measured process failed with status %d" % status)
    return time.perf_counter() - start, usage.ru_maxrss / 1024, output.decode().strip()


def paired(path, rounds):
    bare = BARE % path
    parse = PARSE.format(path=os.path.join(ROOT, ".collections"), file=path)
    # What is installed has been compiled before; whether this checkout may be written to is no property of the parser.
    environment = dict(os.environ, PYTHONPYCACHEPREFIX=os.path.join(os.path.dirname(path), "compiled"))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for code in (bare, parse):
        run(code, environment)
    pairs = [(run(bare, environment), run(parse, environment)) for _round in range(rounds)]
    ratio = statistics.median(one[0] / two[0] for one, two in pairs)
    seconds = [statistics.median(pair[side][0] for pair in pairs) for side in (0, 1)]
    return ratio, seconds, max(pair[1][1] for pair in pairs), pairs[0][1][2]


def floor(path, rounds):
    """Seconds of a bare line loop, and of what a parser cannot do without, in one process each round; medians."""
    code = FLOOR.format(path=os.path.join(ROOT, ".collections"), file=path)
    outputs = [run(code, dict(os.environ))[2].split() for _round in range(rounds)]
    return [statistics.median(map(float, side)) for side in zip(*outputs)]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--size", type=int, default=200, help="MB of each file")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument(
        "--large", type=int, default=2048, help="MB of the file that memory is measured on (0: leave out)"
    )
    options = arguments.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("Python %s; sizes in MB, throughput in MB/s, ratio = bare loop time / parser time" % sys.version.split()[0])
    print("%-34s %6s %7s %9s %8s %6s %7s %8s" % ("file", "size", "bare", "parser", "ratio", "bar", "RSS MiB", "kills"))
    jobs = [
        ("firewall lines, 1 % OOM lines", firewall, options.size, 0.5, options.rounds),
        ("nothing but reports", reports, options.size, 0.13, options.rounds),
        ("flood, 1/8", reports, options.size // 8, None, options.rounds),
        ("flood, 1/4", reports, options.size // 4, None, options.rounds),
        ("flood, 1/2", reports, options.size // 2, None, options.rounds),
    ]
    if options.large:
        jobs.append(("firewall lines, large (RSS bar 64)", firewall, options.large, None, 1))
    with tempfile.TemporaryDirectory() as folder:
        for name, make, size, least, rounds in jobs:
            path = os.path.join(folder, "log")
            make(path, size * 1000000)
            real = os.path.getsize(path) / 1e6
            ratio, seconds, rss, kills = paired(path, rounds)
            print(
                "%-34s %6d %7.0f %9.1f %8.3f %6s %7.0f %8s"
                % (name, real, real / seconds[0], real / seconds[1], ratio, least or "", rss, kills)
            )
            os.unlink(path)
        reports(path, options.size * 50000)
        real = os.path.getsize(path) / 1e6
        bare, least = floor(path, options.rounds)
        print(
            "%-34s %6d %7.0f %9.1f %8.3f"
            % ("reports: words, numbers and dicts", real, real / bare, real / least, bare / least)
        )


if __name__ == "__main__":
    main()
