# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever stands in a log, nothing raises and everything is JSON; a name never changes who was killed."""

import json

import pytest

pytest.importorskip("hypothesis")
from ansible_collections.oom.forensics.plugins.module_utils._oom import companions, context, killers
from ansible_collections.oom.forensics.plugins.module_utils._oom.merging import merge
from ansible_collections.oom.forensics.plugins.module_utils._oom.rows import Stamp
from ansible_collections.oom.forensics.plugins.module_utils._oom.times import Context
from hypothesis import given
from hypothesis import strategies as st

KNOWN = Context(source="journal", raw=True)
PROGRAMS = [each.name for each in companions.PROGRAMS]
PIECES = [
    "Killed /",
    "Marked /",
    " for killing",
    " due to memory pressure for /a being 1.00% > 1.00% for > 1s with reclaim activity",
    " due to memory used (1) / total (1) and swap used (1) / total (1) being more than 1.00%",
    'sending SIGTERM to process 8 uid 0 "',
    '": badness 1, VmRSS 3 MiB',
    ', cmdline "',
    "process exited after 1",
    "kill failed: x",
    "  PID: 8, name: ",
    ", badness: 7",
    "  Vm, MiB:   Size: 1, RSS: 2 (Anon: 3, File: 4, Shmem: 5), ",
    "  Sending SIGKILL to the victim",
    "Process with highest badness",
    "The victim died in 1s",
    "Trying to kill /sys/fs/cgroup/",
    "Killed 2: 8(a) 9(b)",
    "oomd kill: 1.0 1.0 1.0 a 1 ruleset:",
    "a.service: systemd-oomd killed 1 process(es) in this unit.",
    "a.service: A process of this unit has been killed by the OOM killer.",
    'TaskOOM event container_id:"' + "0" * 64,
    "OOMKilled",
    "\n",
    "\x00",
    "\udcff",
    "99999999999999999999",
]
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=8).map("".join)
stamps = st.builds(
    Stamp,
    realtime_usec=st.one_of(st.none(), st.integers(0, 10**18)),
    boot_id=st.sampled_from([None, "0" * 32, "1" * 32]),
    hostname=st.one_of(st.none(), st.text(max_size=3)),
)
lines = st.builds(
    companions.Said,
    program=st.sampled_from(PROGRAMS),
    text=texts,
    stamp=stamps,
    uid=st.sampled_from([0, 1000]),
    writer=st.sampled_from(["", "1", "7"]),
    unit=st.sampled_from([None, "a.service"]),
    exit_code=st.sampled_from([None, "137", "0"]),
)


@given(st.lists(lines, max_size=12))
def test_nothing_raises_and_all_is_json(said):
    found = killers.Killers(KNOWN, most=8)
    facts = []
    for line in said:
        found.see(line)
        facts.append(context.fact(line, KNOWN))
    kills = found.events()
    assert len(kills) <= 16
    both = context.join(merge(kills), [each for each in facts if each])
    assert len({event["id"] for event in both}) == len(both)
    json.dumps(both, allow_nan=False).encode("utf-8")


values = st.one_of(
    st.none(),
    st.text(max_size=12),
    texts,
    st.integers(),
    st.lists(st.integers(-1, 300), max_size=4),
    st.lists(st.text(max_size=3), max_size=2),
)
names = st.sampled_from(
    [
        "MESSAGE",
        "_PID",
        "_COMM",
        "_UID",
        "_SYSTEMD_UNIT",
        "_SYSTEMD_USER_UNIT",
        "_TRANSPORT",
        "SYSLOG_FACILITY",
        "UNIT",
        "USER_UNIT",
        "PODMAN_ID",
        "PODMAN_EXIT_CODE",
        "__REALTIME_TIMESTAMP",
        "_SOURCE_REALTIME_TIMESTAMP",
        "_BOOT_ID",
        "__CURSOR",
    ]
)


@given(st.dictionaries(names, values))
def test_any_record_is_read_or_not(record):
    said = companions.from_journal(record)
    if said is not None:
        context.fact(said, KNOWN)


@given(st.one_of(texts, st.text()))
def test_any_line_is_read_or_not(text):
    for line in (text, "Nov 23 13:01:41 lab earlyoom[7]: " + text, "Nov 23 13:01:41 lab kernel: oomd kill: " + text):
        companions.from_text(line)


def earlyoom(text):
    found = killers.Killers(KNOWN)
    stamp = Stamp(realtime_usec=1795438900000000)
    for line in text.split("\n"):  # stdout is logged by line
        found.see(companions.Said("earlyoom", line, stamp))
    return [(each["victims"][0]["pid"], each["victims"][0]["comm"]) for each in found.events()]


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\0"), min_size=1, max_size=15))
def test_a_process_name_of_15_characters_cannot_say_anything_else(comm):
    line = 'sending SIGTERM to process 8 uid 0 "{0}": badness 1, VmRSS 3 MiB'.format(comm)
    assert earlyoom(line) == [(8, comm)]
    assert earlyoom(line.replace(" MiB", ' MiB, cmdline "x"').replace("badness", "oom_score")) == [(8, comm)]


@given(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=60), st.sampled_from(PIECES)
)
def test_a_cgroup_may_be_named_like_the_line(name, piece):
    path = "/system.slice/" + name + piece
    tail = " due to memory pressure for /user.slice being 65.15% > 50.00% for > 20s with reclaim activity"
    found = killers.Killers(KNOWN)
    found.see(companions.Said("systemd-oomd", "Marked " + path + " for killing" + tail, Stamp()))
    found.see(companions.Said("systemd-oomd", "Killed " + path + tail, Stamp()))
    shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    assert [each["victim_cgroup"] for each in found.events()] == [shown, shown]
    assert {each["limit_cgroup"] for each in found.events()} == {"/user.slice"}
