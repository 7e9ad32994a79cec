# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real kills with ground truth: who, where, whose limit, the same id in every transport."""

import glob
import json
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from corpus import events_of, fixture, identity, read  # noqa: E402

DOCKER = "/system.slice/docker-%s.scope"
WALK = DOCKER % "3193584578ea07bf5ee503289e7fe7b69f20e60ad236b2b5ce2274419856f8f3"
A1 = DOCKER % "1bfc59e5ed62300ab4b17affab92f2b38aff4a2ee675c070380c1fea9b190dfa"


def test_the_founding_walk():
    (event,) = events_of(fixture("founding-walk-5.15-arm64", "journal.short.log"))
    (victim,) = event["victims"]
    assert (victim["pid"], victim["comm"], victim["uid"]) == (3974, "apk", 0)
    assert (victim["total_vm_bytes"], victim["anon_rss_bytes"]) == (20600 * 1024, 7508 * 1024)
    assert (victim["file_rss_bytes"], victim["pgtables_bytes"], victim["oom_score_adj"]) == (588 * 1024, 80 * 1024, 0)
    assert event["scope"] == "memcg" and event["limit_level"] == "own"
    assert event["limit_cgroup"] == event["victim_cgroup"] == WALK
    assert event["memory"] == {"usage_bytes": 8192 * 1024, "limit_bytes": 8192 * 1024, "failcnt": 282377}
    assert event["swap"] == {"usage_bytes": 8192 * 1024, "limit_bytes": 8192 * 1024, "failcnt": 1832}
    assert event["cgroup_version"] == 2 and event["page_size"] == 4096
    assert [(task["pid"], task["name"]) for task in event["tasks"]] == [(3974, "apk"), (3920, "sh")]
    assert event["tasks"][0]["swap_bytes"] == 1930 * 4096 and event["tasks"][0]["pgtables_bytes"] == 81920
    assert event["cgroup_stat"]["workingset_refault_file"] == 85011 and len(event["cgroup_stat"]) == 40
    assert event["trigger"]["comm"] == "apk" and event["trigger"]["gfp_mask"] is None
    assert event["completeness"]["missing"] == ["trigger"] and not event["completeness"]["complete"]
    assert event["kernel"] == "5.15.0-107-generic"
    assert event["workload"]["engine"] == "docker" and event["workload"]["id"].startswith("3193584578ea")


TRANSPORTS = [
    "dmesg.log",
    "dmesg-T.log",
    "dmesg-r.log",
    "dmesg-x.log",
    "dmesg-iso.log",
    "dmesg.json",
    "journal-k.json",
    "journal-k.export",
    "journal-k.short.log",
    "journal-k.short-iso-precise.log",
    "journal-k.short-monotonic.log",
]
SCENARIOS = (
    "a1-docker-memcg-8m-pid1",
    "b2-systemd-service-OOMPolicy-kill",
    "d1-global-session",
    "f1-sysrq-f",
)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_transport_tells_the_same(scenario, transport):
    reference = list(map(identity, events_of(fixture("vm-6.1", scenario, "kmsg.raw"))))
    assert len(reference) == 1
    assert list(map(identity, events_of(fixture("vm-6.1", scenario, transport)))) == reference


def test_a_container_at_its_own_limit():
    (event,) = events_of(fixture("vm-6.1", "a1-docker-memcg-8m-pid1", "journal-k.export"))
    assert event["trigger"] == {
        "comm": "eater",
        "pid": 2451,
        "uid": None,
        "gfp_mask": "0xcc0",
        "gfp_flags": ["GFP_KERNEL"],
        "order": 0,
        "oom_score_adj": 0,
        "cpuset": A1.rpartition("/")[2],
        "mems_allowed": "0",
        "nodemask": None,
    }
    assert (event["limit_cgroup"], event["limit_level"]) == (A1, "own")
    assert event["boot_id"] == "432c69a208204df2a4fcf603ea86771e"
    assert (event["time"], event["time_source"]) == ("2026-11-22T21:58:06.152395Z", "journal")
    assert event["monotonic_usec"] == 1069461993
    assert event["completeness"] == {
        "complete": True,
        "missing": [],
        "suppressed_headers": 0,
        "gaps": 0,
        "truncated": False,
    }


def test_a_group_kill_is_one_event():
    (event,) = events_of(fixture("vm-6.1", "b2-systemd-service-OOMPolicy-kill", "kmsg.raw"))
    truth = json.loads(read(fixture("vm-6.1", "b2-systemd-service-OOMPolicy-kill", "truth.json")).decode())
    assert event["group_kill"] and event["kill_lines"] == truth["vmstat_oom_kill_delta"] == 5
    roles = [victim["role"] for victim in event["victims"]]
    assert roles == ["chosen", "group", "group", "group"]  # the chosen one is logged and counted twice


def test_the_host_out_of_memory():
    (event,) = events_of(fixture("vm-6.1", "d1-global-session", "kmsg.raw"))
    memory = event["host_memory"]
    assert (event["scope"], event["limit_level"], event["limit_cgroup"]) == ("host", "host", None)
    assert event["victims"][0]["reaped"] is True
    assert {zone["zone"] for zone in memory["zones"]} == {"DMA", "DMA32"}
    assert memory["swap_total_bytes"] == 0 and memory["nodes"][0]["all_unreclaimable"] is True
    assert memory["totals"]["free_bytes"] % 4096 == 0 and memory["totals"]["free_bytes"] > 0
    assert memory["zones"][0]["lowmem_reserve_bytes"][0] == 0
    assert event["tasks_total"] == len(event["tasks"]) == 16


@pytest.mark.parametrize(
    "scenario, scope, constraint",
    [
        ("f1-sysrq-f", "sysrq", "CONSTRAINT_NONE"),
        ("g1-cpuset", "cpuset", "CONSTRAINT_CPUSET"),
        ("g2-mempolicy", "mempolicy", "CONSTRAINT_MEMORY_POLICY"),
    ],
)
def test_scopes(scenario, scope, constraint):
    (event,) = events_of(fixture("vm-6.1", scenario, "kmsg.raw"))
    assert (event["scope"], event["constraint"], event["outcome"]) == (scope, constraint, "killed")


def test_invoked_without_any_kill():
    (path,) = glob.glob(fixture("vm-6.1", "m1-memcg-no-killable", "kmsg.raw*"))
    found = events_of(path)
    assert len(found) == 37
    assert {(event["outcome"], event["scope"], event["limit_cgroup"]) for event in found} == {
        ("no_victim", "memcg", "/nokill")
    }
    assert sum(event["kill_lines"] for event in found) == 0 and not any(event["victims"] for event in found)


ODD_NAMES = {
    4012: "my app v2",
    4025: "a(b)c",
    4040: "sd-pam)",
    4054: "(evil",
    4070: "x,y=z",
    4081: "e,pid=1,uid=0",
    4093: "task=x,pid=7",
    4094: "gr\u00f6\u00dfe-\u00fc",
    4096: "tab\there",
    4097: "nl\nnext",
    4098: "Killed process",
    4100: "back\\slash\\x41",
    4103: "trail,  ",
    4109: "[12345]",
    4110: "bad\\xff\\xfeutf8",
}


@pytest.mark.parametrize("transport", ["kmsg.raw", "journal-k.json.xz"])
def test_names_that_attack_the_parser(transport):
    found = events_of(fixture("vm-6.1", "e1-odd-comm", transport))
    names = {victim["pid"]: victim["comm"] for event in found for victim in event["victims"]}
    assert len(found) == 18 and len(names) == 18
    assert {pid: names.get(pid) for pid in ODD_NAMES} == ODD_NAMES
    for event in found:
        json.dumps(event).encode("utf-8")
        if event["completeness"]["complete"]:
            assert event["victim_cgroup"] == event["limit_cgroup"]
            assert event["trigger"]["comm"] == event["victims"][0]["comm"]


@pytest.mark.parametrize(
    "form",
    ["dmesg-S-r.txt", "dmesg-T.txt", "dmesg-iso.txt", "dmesg-r.txt", "dmesg-x.txt", "dmesg.json.xz", "dmesg.txt"],
)
def test_odd_names_in_every_dmesg_format(form):
    reference = list(map(identity, events_of(fixture("host-6.18-cgroupv1", "01-comm-a.kmsg.txt"))))
    truth = json.loads(read(fixture("host-6.18-cgroupv1", "01-comm-a.truth.json")).decode())
    found = list(map(identity, events_of(fixture("host-6.18-cgroupv1", "01-comm-a." + form))))
    assert sorted(map(str, found)) == sorted(map(str, reference)) and len(found) == 10
    assert sorted(batch["truth"]["pid"] for batch in truth) == sorted(event[-1][0][0] for event in found)
    assert sorted(batch["truth"]["cgroup"] for batch in truth) == sorted(event[4] for event in found)


def test_the_trigger_is_not_the_victim_and_the_limit_is_an_ancestors():
    truth = json.loads(read(fixture("host-6.18-cgroupv1", "05-relations.truth.json")).decode())
    by_pid = {
        victim["pid"]: event
        for event in events_of(fixture("host-6.18-cgroupv1", "05-relations.kmsg.txt"))
        for victim in event["victims"]
    }
    other = truth[0]["truth"]
    assert by_pid[other["victim_pid"]]["trigger"]["pid"] == other["trigger_pid"] != other["victim_pid"]
    nested = truth[1]["truth"]
    event = by_pid[nested["a_pid"]]
    assert (event["limit_cgroup"], event["victim_cgroup"]) == (nested["oom_memcg"], nested["task_memcg_of_a"])
    assert event["limit_level"] == "ancestor"


def test_forty_kills_ten_headers():
    """The kernel prints ten reports in five seconds; of the other kills only the last line remains."""
    found = events_of(fixture("host-6.18-cgroupv1", "06-burst-ratelimit.kmsg.txt"))
    truth = json.loads(read(fixture("host-6.18-cgroupv1", "06-burst-ratelimit.truth.json")).decode())
    assert sum(event["kill_lines"] for event in found) == truth[0]["killed_lines"] == 40
    headers = [event for event in found if event["trigger"]["gfp_mask"]]
    assert len(headers) == 10
    assert {event["scope"] for event in found} == {"memcg"}
    bare = [event for event in found if event not in headers]
    assert all(event["limit_cgroup"] is None and "trigger" in event["completeness"]["missing"] for event in bare)
    assert sorted(victim["pid"] for event in found for victim in event["victims"]) == sorted(truth[0]["truth"]["pids"])
