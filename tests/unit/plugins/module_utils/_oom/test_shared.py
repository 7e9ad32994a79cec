# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole captured corpus and the public reports, read where they lie: scored per file."""

import json
import os
import re
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from corpus import events_of, identity, read  # noqa: E402

# What mail programs and people did to a report: these need only 95 percent.
MANGLED = re.compile(
    r"wrapped|quoted|elided|trimmed|abridged|hand-copied|grep|short|truncated|hard-wrapped|mixed", re.I
)


def samples(shared):
    with open(str(shared / "samples" / "index.tsv"), encoding="utf-8") as index:
        names = index.readline().rstrip("\n").split("\t")
        for line in index:
            yield dict(zip(names, line.rstrip("\n").split("\t")))


def test_public_reports(shared_dir, capsys):
    """100 percent of the victims of clean files, at least 95 of mangled ones, nothing that was no kill."""
    due = {False: 0, True: 0}
    got = {False: 0, True: 0}
    lines, wrong = [], []
    for sample in samples(shared_dir):
        found = events_of(str(shared_dir / "samples" / sample["file"]))
        text = read(str(shared_dir / "samples" / sample["file"])).decode("utf-8", "replace")
        named = set(map(int, re.findall(r"Killed process\s+(?:[>\s]*)(\d+)", text)))
        pids = {victim["pid"] for event in found for victim in event["victims"]}
        mangled = bool(MANGLED.search(sample["notes"] + sample["file"] + sample["transport_prefix"]))
        expected = int(sample["oom_kills"])
        due[mangled] += expected
        got[mangled] += min(expected, len(pids & named))
        lines.append("%-48s %3d of %3d victims, %d events" % (sample["file"], len(pids), expected, len(found)))
        if pids - named or len(pids) > expected:
            wrong.append((sample["file"], sorted(pids)))
        if not mangled and len(pids) < expected:
            wrong.append((sample["file"], sorted(pids)))
        killed = sum(1 for event in found if event["outcome"] == "killed")
        if bool(killed) != bool(expected):
            wrong.append((sample["file"], "outcome"))
        json.dumps(found).encode("utf-8")
    with capsys.disabled():
        print("\n" + "\n".join(lines))
        print("clean %d of %d, mangled %d of %d" % (got[False], due[False], got[True], due[True]))
    assert not wrong
    assert got[False] == due[False] and got[True] >= 0.95 * due[True]


OUTCOMES = {
    "kdump-6.8rc5-nokillable-panic.log": ["panic"],
    "k210-riscv64-nommu-5.6-boot-panic.log": ["panic"],
    "el7-3.10-panic-on-oom-tail.log": ["panic"],
    "vz-5.15rc4-memcg-then-global-panic.log": ["killed", "panic"],
    "arm-ls1024a-6.8.1-nas-panic.log": ["killed", "panic"],
    "fedora-memcg-parent-smaller-nokill.log": ["no_victim"],
    "ubuntu2110-5.13-sysrq-f.log": ["killed"],
    "syzkaller-334-panic-interleaved.log": ["unknown"],
    "ppc64le-6.0-cgroupv1-dirty-header.log": ["unknown"],
}


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_outcomes(shared_dir, name):
    found = events_of(str(shared_dir / "samples" / name))
    assert sorted(event["outcome"] for event in found) == OUTCOMES[name]


@pytest.mark.parametrize(
    "name, check",
    [
        ("el6-2.6.32-oom-storm-20-kills.log", lambda found: len(found) == 20),
        ("zram-6.11-oomgroup-41-kills.log", lambda found: len(found) == 1 and found[0]["kill_lines"] == 41),
        ("aks-5.15-oom-group-nginx-bash.log", lambda found: len(found) == 1 and found[0]["kill_lines"] == 6),
        ("suse-5.8.2-cpuset-movable-docker.log", lambda found: found[0]["trigger"]["comm"] == "runc:[2:INIT]"),
        ("el10-6.12-ppc64le-memcg-nozswap.log", lambda found: found[0]["page_size"] == 65536),
        ("bpf-oom-6.16-custom-constraint.log", lambda found: found[0]["constraint"] == "CONSTRAINT_BPF_PSI_MEM"),
        ("el9-elrepo-6.1.119-nfsd-sdpam.log", lambda found: found[0]["victims"][0]["comm"] == "(sd-pam)"),
        ("fstests-6.10rc1-journal-order1.log", lambda found: found[0]["victims"][0]["comm"] == "531"),
        ("sles15sp3-5.3-kubevirt-comm-with-space.log", lambda found: found[0]["trigger"]["comm"] == "CPU 11/KVM"),
        ("memory-min-oom-quoted.log", lambda found: found[0]["limit_level"] == "ancestor"),
    ],
)
def test_hard_cases(shared_dir, name, check):
    assert check(events_of(str(shared_dir / "samples" / name)))


def test_captured_logs_in_every_transport(shared_dir):
    """Each event of each transport is one that the raw records have, but for what a transport cannot carry."""
    seen = 0
    for truth_file in sorted((shared_dir / "logs").glob("vm-*/*/truth.json")):
        folder = truth_file.parent
        (raw,) = folder.glob("kmsg.raw*")
        counted = json.loads(truth_file.read_text())["log_counts"]
        reference = events_of(str(raw))
        if folder.name != "k1-storm-200":  # there the ring buffer kept 76 of 200 kills
            assert sum(event["kill_lines"] for event in reference) >= counted["killed"], folder
        if folder.name in ("k1-storm-200", "e1-odd-comm"):
            continue
        wanted = sorted(map(str, map(identity, reference)))
        for log in sorted(folder.iterdir()):
            if log.name.startswith(("dmesg", "journal")):
                assert sorted(map(str, map(identity, events_of(str(log))))) == wanted, log
                seen += 1
    assert seen > 250


def test_the_journal_has_what_the_ring_buffer_lost(shared_dir):
    storm = shared_dir / "logs" / "vm-6.1.0-56-amd64" / "k1-storm-200"
    (raw,) = storm.glob("kmsg.raw*")
    (journal,) = storm.glob("journal-k.export*")
    ring, kept = events_of(str(raw), source="kmsg"), events_of(str(journal), source="journal")
    assert sum(event["kill_lines"] for event in kept) == 200
    assert sum(event["kill_lines"] for event in ring) == 76
    from ansible_collections.oom.forensics.plugins.module_utils._oom import events

    merged = events.merge(ring + kept)
    assert len(merged) == len(kept) == 200
    assert sum(1 for event in merged if len(event["origins"]) == 2) == 76
