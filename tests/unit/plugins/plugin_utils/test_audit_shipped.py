# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every shipped rule on a document that it must find something in, and on ones that it must not."""

import os
import sys

import pytest
from ansible_collections.oom.forensics.plugins.plugin_utils import _audit, _rules, _shape

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from audit_documents import (
    COVERAGE,
    DB,
    GIB,
    HOST,
    MIB,
    NOW,
    WEB,
    cgroup,
    cgroup_coverage,
    document,
    kill,
    scope,
    source,
    sysctls,
)

RULES = {rule.id: rule for rule in _rules.load()}
NEXT_WEEK = "2026-11-30T13:00:00.000000Z"
UNREACHABLE = {"status": "unreachable", "error": "no route"}
DENIED = {"error": "Permission denied."}
KILLED = {"events": {"oom_kill": 1}}  # of a cgroup: it has lost a process
UNLIMITED = {"memory_max": None, "memory_high": None, "memory_effective_max": None, "memory_effective_max_path": None}
UNLIMITED.update(utilisation=None, peak_utilisation=None)
SERVICE = "/system.slice/db.service"
KILLS = [kill(30 - each, name="web") for each in (0, 10, 20)]
LOOP = [kill(1 - each / 20.0, name="web") for each in (0, 1, 2)]


def cgroups(**changed):
    return document(cgroups=[cgroup(name="web", **changed)])


def nobody_s(event):
    """The event of a killer that names no cgroup, such as earlyoom."""
    who = dict.fromkeys(event["workload"])
    return dict(event, workload=who, limit_workload=who, victim_cgroup=None, killer="earlyoom")


def user_s(event, uid):
    return dict(event, workload=dict(event["workload"], uid=uid))


def limited(gib, path=None, least=None, above=None):
    path = path or scope()
    return cgroup(
        path,
        memory_max=gib * GIB,
        memory_effective_max=(least or gib) * GIB,
        memory_effective_max_path=above or path,
    )


def survivor(**changed):
    return cgroup(name="web", **dict(KILLED, **changed))


def critical(**changed):
    return [dict(HOST["critical_processes"][0], **changed)]


# rule: the document in which it finds `subject` with `message` (a part of it), and documents in which it finds nothing.
CASES = {
    "host-not-read": (
        document(**UNREACHABLE),
        "web01",
        "unreachable: no route",
        [document()],
    ),
    "evidence-stale": (
        document(collected_at="2026-11-22T12:54:00.000000Z"),
        "evidence",
        "collected at 2026-11-22 12:54:00",
        [document(), document(collected_at="2026-11-22T13:06:00.000000Z"), document(collected_at=None)],
    ),
    "logs-unreadable": (
        document(coverage={"sources": [source("journal", False), source("kmsg", False, **DENIED)]}),
        "logs",
        "none of journal, kmsg could be read",
        [
            document(),
            document(coverage={"sources": [source("journal", False, **DENIED), source("kmsg")]}),
            document(coverage={"sources": [source("journal", False), source("kmsg", False)]}),  # nothing is there
            document(coverage={"sources": []}),
        ],
    ),
    "logs-missing": (
        document(coverage={"sources": [source("journal", False), source("kmsg", False)]}),
        "logs",
        "none of journal, kmsg is there",
        [
            document(),
            document(coverage={"sources": [source("journal", False), source("kmsg")]}),
            document(coverage={"sources": [source("journal", False), source("kmsg", False, **DENIED)]}),
            document(coverage={"sources": []}),
        ],
    ),
    "cgroups-unreadable": (
        document(cgroups=None, coverage=cgroup_coverage(error="no memory controller")),
        "cgroups",
        "no memory controller",
        [document(), document(cgroups=[]), document(cgroups=None, **UNREACHABLE)],
    ),
    "evidence-truncated": (
        document(coverage={"truncated": True, "events_total": 12, "events_returned": 10}),
        "evidence",
        "10 of 12 kills",
        [document()],
    ),
    "cgroups-incomplete": (
        document(coverage=cgroup_coverage(cgroups_total=12, cgroups_returned=10, unreadable=3)),
        "cgroups",
        "of 12 cgroups that were read 2 were left out; 3 more could not be read",
        [document(), document(coverage={"cgroups": None})],
    ),
    "engine-unreadable": (
        document(coverage={"engines": [{"engine": "docker", "error": "permission denied", "advice": None}]}),
        "docker",
        "permission denied",
        [document(), document(coverage={"engines": [{"engine": "docker", "error": None, "advice": None}]})],
    ),
    "kills-undated": (
        document(events=[kill(time=None), kill(time=None), kill()]),
        "logs",
        "OOM events without a time: 2",
        [document(), document(events=[kill()]), document(events=[kill(time=None, outcome="no_victim")])],
    ),
    "kills-unlogged": (
        document(coverage={"kills_unlogged": 2, "kernel_counter": 5}),
        "logs",
        "since boot: 5; of these in no log: 2",
        [document(), document(coverage={"kills_unlogged": None})],
    ),
    "evidence-lost-at-reboot": (
        document(coverage={"journal_persistent": False, "sources": [source("journal"), source("file", False)]}),
        "journal",
        "not persistent",
        [
            document(),
            document(coverage={"journal_persistent": False}),  # syslog writes a file
            document(
                coverage={"journal_persistent": False, "sources": [source("journal")]}
            ),  # files were not asked for
            document(coverage={"journal_persistent": None, "sources": [source("file", False)]}),
            document(
                coverage={"journal_persistent": False, "sources": [source("file", False, error="Permission denied")]}
            ),
        ],
    ),
    "ring-buffer-overrun": (
        document(coverage={"ring_buffer_overrun": True, "sources": [source("kmsg", missed=59713)]}),
        "ring buffer",
        "59713 records",
        [document(), document(coverage={"ring_buffer_overrun": None})],
    ),
    "kills-last-day": (
        document(events=[kill(30, name="web"), kill(2, name="web"), kill(1, name="web", comm="java")]),
        "docker web",
        "OOM events in 24 hours: 2; at 2026-11-23 12:00:00, kernel killed java",
        [
            document(),
            document(events=[kill(24.1)]),
            document(events=[kill(time=None)]),
            document(events=[kill(outcome="no_victim")]),
        ],
    ),
    "kills-repeated": (
        document(events=KILLS),
        "docker web",
        "OOM events in 7 days: 3, the last at 2026-11-23 03:00:00",
        [
            document(events=KILLS[1:]),
            document(events=[*KILLS[1:], kill(169, name="web")]),
            document(events=[*KILLS[1:], kill(path=scope(DB), name="db")]),
            document(events=[nobody_s(each) for each in KILLS]),
            document(events=[user_s(each, uid) for uid, each in enumerate(KILLS, 1000)]),
        ],
    ),
    "kill-loop": (
        document(events=LOOP),
        "docker web",
        "OOM events within 10 minutes: 3, the last at 2026-11-23 12:06:00",
        [
            document(events=KILLS),
            document(events=LOOP[1:]),
            document(events=[kill(200 + each / 20.0) for each in (0, 1, 2)]),
            document(events=[kill(1 + each / 10.9) for each in (0, 1, 2)]),  # 11 minutes
            document(events=[dict(each, outcome="no_victim") for each in LOOP]),
            document(events=[*LOOP[1:], kill(path=scope(DB), name="db")]),
            document(events=[nobody_s(each) for each in LOOP]),  # they have nothing in common
            document(events=[user_s(each, uid) for uid, each in enumerate(LOOP, 1000)]),  # of three users
        ],
    ),
    "container-survived-kill": (
        document(events=[kill(name="web")], cgroups=[survivor()]),
        "docker web",
        "at 2026-11-23 12:00:00, tail was killed, and the container is there",
        [
            document(),
            document(events=[kill(name="web")]),  # killed whole, and started again since
            document(events=[kill(name="web")], cgroups=[survivor(events={"oom_kill": 0})]),
            document(events=[kill(path=scope(DB))], cgroups=[survivor()]),  # that container is gone
            document(events=[kill(tasks_total=1)], cgroups=[survivor()]),  # nobody survived
            document(events=[kill(169)], cgroups=[survivor()]),
            document(events=[kill(path=SERVICE)], cgroups=[cgroup(SERVICE, **KILLED)]),
        ],
    ),
    "panic-on-oom": (
        document(host=sysctls(vm_panic_on_oom=2)),
        "vm.panic_on_oom",
        "vm.panic_on_oom is 2",
        [document(), document(host=sysctls(vm_panic_on_oom=None))],
    ),
    "oom-tasks-not-dumped": (
        document(host=sysctls(vm_oom_dump_tasks=0)),
        "vm.oom_dump_tasks",
        "vm.oom_dump_tasks is 0",
        [document(), document(host=sysctls(vm_oom_dump_tasks=None))],
    ),
    "oom-kills-allocating-task": (
        document(host=sysctls(vm_oom_kill_allocating_task=1)),
        "vm.oom_kill_allocating_task",
        "is 1",
        [document(), document(host=sysctls(vm_oom_kill_allocating_task=None))],
    ),
    "overcommit-always": (
        document(host=sysctls(vm_overcommit_memory=1)),
        "vm.overcommit_memory",
        "4 GiB are promised of 16 GiB",
        [document(), document(host=sysctls(vm_overcommit_memory=2)), document(host=sysctls(vm_overcommit_memory=None))],
    ),
    "overcommit-strict-small": (
        document(host=sysctls(vm_overcommit_memory=2)),
        "vm.overcommit_ratio",
        "allows 10 GiB of 16 GiB",
        [
            document(),
            document(host=dict(sysctls(vm_overcommit_memory=2), commit_limit_bytes=13 * GIB)),
            document(host=dict(sysctls(vm_overcommit_memory=2), commit_limit_bytes=None)),
            document(host=dict(sysctls(vm_overcommit_memory=2), memory_total_bytes=None)),
        ],
    ),
    "overcommit-strict-large": (
        document(host=dict(sysctls(vm_overcommit_memory=2), commit_limit_bytes=20 * GIB)),
        "vm.overcommit_ratio",
        "allows 20 GiB, with 16 GiB of memory and 2 GiB of swap",
        [
            document(host=dict(sysctls(), commit_limit_bytes=20 * GIB)),
            document(host=dict(sysctls(vm_overcommit_memory=2), commit_limit_bytes=18 * GIB)),
            document(host=dict(sysctls(vm_overcommit_memory=2), commit_limit_bytes=20 * GIB, swap_total_bytes=None)),
        ],
    ),
    "swap-accounting-off": (
        document(coverage=cgroup_coverage(swap_accounting=False)),
        "swap accounting",
        "of which the host has 2 GiB",
        [document(), document(coverage=cgroup_coverage(swap_accounting=None))],
    ),
    "memory-not-delegated": (
        document(coverage=cgroup_coverage(memory_delegated=False, undelegated=["/user.slice"])),
        "memory controller",
        "/user.slice",
        [document(), document(coverage=cgroup_coverage(memory_delegated=None))],
    ),
    "critical-process-unprotected": (
        document(host={"critical_processes": critical(oom_score_adj=0)}),
        "sshd",
        "oom_score_adj is 0 and no memory is reserved",
        [
            document(),
            document(host={"critical_processes": critical(oom_score_adj=None)}),
            document(
                host={"critical_processes": critical(oom_score_adj=0)},
                cgroups=[cgroup("/system.slice/ssh.service", memory_low=64 * MIB)],
            ),
            document(
                host={"critical_processes": critical(oom_score_adj=0)},
                cgroups=[cgroup("/system.slice/ssh.service", memory_min=1)],
            ),
        ],
    ),
    "userspace-killer": (
        document(host={"userspace_oom_killers": ["earlyoom"]}),
        "earlyoom",
        "may kill before the kernel",
        [document(), document(host={"userspace_oom_killers": None})],
    ),
    "userspace-killers-compete": (
        document(host={"userspace_oom_killers": ["earlyoom", "systemd-oomd"]}),
        "OOM killers",
        "earlyoom, systemd-oomd run at once",
        [document(), document(host={"userspace_oom_killers": ["earlyoom"]})],
    ),
    "container-without-limit": (
        cgroups(**UNLIMITED),
        "docker web",
        "no limit; it uses 10 MiB",
        [
            document(),
            cgroups(memory_max=None),  # its pod or slice has a limit
            cgroups(memory_current=None, **UNLIMITED),  # no memory controller there
            document(cgroups=[cgroup(SERVICE, **UNLIMITED)]),
            # What the container makes inside of itself.
            document(cgroups=[cgroup(), cgroup(scope() + "/inner", **UNLIMITED)]),
        ],
    ),
    "memory-high-unset": (
        cgroups(memory_high=None),
        "docker web",
        "memory.max is 100 MiB, and memory.high is not set",
        [document(), cgroups(**UNLIMITED), document(cgroups=[cgroup(version=1)])],
    ),
    "usage-near-limit": (
        cgroups(utilisation=0.91, memory_current=91 * MIB),
        "docker web",
        "91 MiB of 100 MiB are used (91 %)",
        [document(), cgroups(utilisation=0.9), cgroups(utilisation=None)],
    ),
    "peak-near-limit": (
        cgroups(peak_utilisation=1.0, memory_peak=100 * MIB),
        "docker web",
        "up to 100 MiB of 100 MiB were used (100 %)",
        [
            document(),
            cgroups(peak_utilisation=None),
            cgroups(peak_utilisation=0.9),
            cgroups(peak_utilisation=1.0, utilisation=0.91),
        ],
    ),
    "implicit-swap": (
        cgroups(memory_swap_max=100 * MIB),
        "docker web",
        "100 MiB of memory and as much swap again",
        [
            document(),
            cgroups(memory_swap_max=None),
            cgroups(memory_swap_max=50 * MIB),
            cgroups(memory_swap_max=None, **UNLIMITED),
            cgroups(memory_max=0, memory_swap_max=0),
            document(cgroups=[cgroup(SERVICE, memory_swap_max=100 * MIB)]),
            document(cgroups=[cgroup(scope(engine="cri-containerd"), memory_swap_max=100 * MIB)]),
        ],
    ),
    "limits-exceed-memory": (
        document(
            cgroups=[
                limited(10),
                limited(7, scope(DB)),
                cgroup(scope("c3" * 32), **UNLIMITED),
            ]
        ),
        "all containers",
        "2 containers may use 17 GiB, and the host has 16 GiB",
        [
            document(),
            document(cgroups=[]),
            document(cgroups=[limited(10), limited(10, scope() + "/inner")]),
            document(cgroups=[limited(10), limited(10, SERVICE)]),
            document(cgroups=[limited(16)]),
            document(cgroups=[limited(20)], host={"memory_total_bytes": None}),
            # What counts is the limit above, and that once.
            document(cgroups=[limited(20, least=10, above="/system.slice")]),
            document(cgroups=[limited(10, "/system.slice"), limited(9), limited(9, scope(DB))]),
        ],
    ),
    "limit-above-memory": (
        cgroups(memory_max=16 * GIB),
        "docker web",
        "a limit of 16 GiB on a host with 16 GiB",
        [document(), cgroups(**UNLIMITED)],
    ),
    "limit-out-of-reach": (
        cgroups(memory_max=200 * MIB, memory_effective_max_path="/system.slice"),
        "docker web",
        "it has 200 MiB, but /system.slice above it only 100 MiB",
        [document(), cgroups(**UNLIMITED)],
    ),
    "oom-group-unset": (
        cgroups(process_count=3),
        "docker web",
        "3 processes, and memory.oom.group is 0",
        [
            document(),
            cgroups(process_count=3, oom_group=True),
            cgroups(process_count=3, oom_group=None),
            document(cgroups=[cgroup(version=1, process_count=3)]),
            document(cgroups=[cgroup(SERVICE, process_count=3, memory_max=None)]),
        ],
    ),
    "oom-kill-disabled": (
        document(cgroups=[cgroup(version=1, name="web", oom_kill_disable=True)]),
        "docker web",
        "at 10 MiB of 100 MiB",
        [document(), document(cgroups=[cgroup(version=1)])],
    ),
    "stuck-at-limit": (
        document(cgroups=[cgroup(version=1, name="web", oom_kill_disable=True, under_oom=True)]),
        "docker web",
        "wait for memory at 10 MiB of 100 MiB",
        [
            document(),
            document(cgroups=[cgroup(version=1, oom_kill_disable=True)]),
            document(cgroups=[cgroup(version=1, under_oom=True)]),  # the killer is at work
        ],
    ),
}
MORE = [
    ("kills-last-day", document(events=[kill(23.9, name="web")]), "docker web"),
    ("kills-repeated", document(events=[*KILLS[1:], kill(167, name="web")]), "docker web"),
    ("kill-loop", document(events=[kill(160 + each / 13.0, name="web") for each in (0, 1, 2)]), "docker web"),
    ("container-survived-kill", document(events=[kill(167, name="web")], cgroups=[survivor()]), "docker web"),
    (  # the table of tasks is that of a slice or of the host, and says nothing of the container
        "container-survived-kill",
        document(events=[kill(tasks_total=1, limit_level="ancestor", name="web")], cgroups=[survivor()]),
        "docker web",
    ),
    ("kills-last-day", document(events=[nobody_s(kill())]), "process tail"),
    ("kills-last-day", document(events=[user_s(kill(name="web"), 1000)]), "docker web uid 1000"),
    ("cgroups-incomplete", document(coverage=cgroup_coverage(unreadable=1)), "cgroups"),
    ("cgroups-incomplete", document(coverage=cgroup_coverage(cgroups_total=9)), "cgroups"),
    (
        "limits-exceed-memory",
        document(cgroups=[limited(17, "/system.slice"), limited(9), limited(9, scope(DB))]),
        "all containers",
    ),
    ("logs-unreadable", document(coverage={"sources": [source("journal", False, **DENIED)]}), "logs"),
    ("logs-missing", document(coverage={"sources": [source("journal", False)]}), "logs"),
    ("cgroups-unreadable", document(cgroups=None), "cgroups"),
    ("cgroups-unreadable", document(cgroups=[], coverage=cgroup_coverage(error="no memory controller")), "cgroups"),
    ("kills-unlogged", document(coverage={"kills_unlogged": 1}), "logs"),
    ("panic-on-oom", document(host=sysctls(vm_panic_on_oom=1)), "vm.panic_on_oom"),
    (
        "overcommit-strict-small",
        document(host=dict(sysctls(vm_overcommit_memory=2), commit_limit_bytes=12 * GIB)),
        "vm.overcommit_ratio",
    ),
    (
        "critical-process-unprotected",
        document(host={"critical_processes": critical(oom_score_adj=0)}, cgroups=[cgroup("/system.slice/ssh.service")]),
        "sshd",
    ),
    ("peak-near-limit", cgroups(peak_utilisation=0.91, utilisation=0.9), "docker web"),
    ("oom-group-unset", cgroups(process_count=2), "docker web"),
    ("implicit-swap", document(cgroups=[cgroup(version=1, name="web", memsw={"max": 200 * MIB})]), "docker web"),
    (
        "implicit-swap",
        document(cgroups=[cgroup(scope(engine="libpod"), name="web", memory_swap_max=100 * MIB)]),
        "podman web",
    ),
    (
        "implicit-swap",
        document(cgroups=[cgroup(memory_swap_max=100 * MIB)], host={"swap_total_bytes": 0}),
        "docker " + WEB[:12],
    ),
    ("oom-group-unset", document(cgroups=[cgroup(SERVICE, process_count=3)]), "db.service"),
    ("limit-out-of-reach", document(cgroups=[cgroup(SERVICE, memory_max=GIB)]), "db.service"),
]


def found(name, evidence):
    result = _audit.audit(evidence, [RULES[name]], NOW)
    return [(finding["rule"], finding["subject"], finding["message"]) for finding in result.findings]


def facts(name, evidence):
    (finding,) = _audit.audit(evidence, [RULES[name]], NOW).findings
    return finding["facts"]


def test_a_kill_of_a_group_is_one_event_of_several_processes():
    group = kill(name="web", group_kill=True)
    group["victims"] = [group["victims"][0]] * 3
    told = facts("kills-last-day", document(events=[group, kill(name="web")]))
    assert (told["events"], told["processes"]) == (2, 4)


def test_a_kill_of_a_whole_cgroup_names_its_killer():
    ((_rule, _whose, says),) = found(
        "kills-last-day", document(events=[kill(name="web", killer="systemd-oomd", victims=[])])
    )
    assert says == "OOM events in 24 hours: 1; at 2026-11-23 12:00:00, systemd-oomd killed all of it"


def test_a_log_file_that_could_not_be_read_leaves_a_reboot_unevaluated():
    rows = [source("journal"), source("file", False, error="Permission denied")]
    evidence = document(coverage={"journal_persistent": False, "sources": rows})
    result = _audit.audit(evidence, [RULES["evidence-lost-at-reboot"]], NOW)
    assert [one["rule"] for one in result.not_evaluated] == ["evidence-lost-at-reboot"]


def test_two_users_containers_of_one_name_are_two():
    events = [user_s(each, uid) for uid in (1000, 1001) for each in LOOP]
    assert [whose for _rule, whose, _says in found("kill-loop", document(events=events))] == [
        "docker web uid 1000",
        "docker web uid 1001",
    ]


def test_every_rule_has_its_documents():
    assert set(CASES) == set(RULES)
    assert all(passing for _bad, _subject, _message, passing in CASES.values())


@pytest.mark.parametrize("name", sorted(CASES))
def test_it_finds_what_is_wrong_and_whose(name):
    evidence, subject, message, _passing = CASES[name]
    ((rule, whose, says),) = found(name, evidence)
    assert (rule, whose) == (name, subject)
    assert message in says
    assert "?" not in says
    assert "{" not in says


@pytest.mark.parametrize(("name", "evidence", "subject"), MORE)
def test_it_finds_it_elsewhere_too(name, evidence, subject):
    assert [(rule, whose) for rule, whose, _says in found(name, evidence)] == [(name, subject)]


@pytest.mark.parametrize(
    ("name", "evidence"),
    [(name, evidence) for name in sorted(CASES) for evidence in CASES[name][3]],
)
def test_it_finds_nothing_where_nothing_is_wrong_or_known(name, evidence):
    assert found(name, evidence) == []


def test_the_documents_have_the_shape_that_the_spool_asks_for():
    every = [document()] + [case[0] for case in CASES.values()] + [one for case in CASES.values() for one in case[3]]
    assert [_shape.wrong(evidence) for evidence in every] == [None] * len(every)


def test_a_host_with_nothing_wrong_has_no_finding_and_every_rule_is_evaluated():
    assert _audit.audit(document(), RULES.values(), NOW) == ([], [])


def test_the_time_of_the_audit_is_known_to_one_rule_only():
    evidence = document(events=KILLS)
    now, later = (_audit.audit(evidence, RULES.values(), time).findings for time in (NOW, NEXT_WEEK))
    assert [finding for finding in later if finding["rule"] != "evidence-stale"] == now
    assert len(later) == len(now) + 1


def unknown(value):
    """The same document with everything null that may be."""
    if isinstance(value, dict):
        return {key: unknown(part) for key, part in value.items()}
    return [] if isinstance(value, list) else None


def test_what_is_unknown_fires_nothing():
    """All keys are there, as of a kernel or host that tells nothing."""
    evidence = document(cgroups=[dict(cgroup(**unknown(cgroup())), path=scope(), workload=cgroup()["workload"])])
    evidence.update(host=unknown(HOST), coverage=dict(unknown(COVERAGE), cgroups=unknown(COVERAGE["cgroups"])))
    result = _audit.audit(evidence, RULES.values(), NOW)
    assert [(finding["rule"], finding["message"]) for finding in result.findings] == []


def test_without_cgroups_the_rules_about_them_are_not_evaluated():
    result = _audit.audit(document(cgroups=None), RULES.values(), NOW)
    assert [finding["rule"] for finding in result.findings] == ["cgroups-unreadable"]
    named = {one["rule"] for one in result.not_evaluated}
    assert {"container-without-limit", "usage-near-limit", "implicit-swap", "stuck-at-limit"} <= named
    assert {one["missing"] for one in result.not_evaluated} == {"cgroups"}


def test_of_a_host_never_read_nothing_but_that_is_known():
    from ansible_collections.oom.forensics.plugins.plugin_utils import _evidence

    evidence = _evidence.not_read("web01", "unreachable", "no route", None)
    result = _audit.audit(evidence, RULES.values(), NOW)
    assert [finding["rule"] for finding in result.findings] == ["host-not-read"]
    assert {one["rule"] for one in result.not_evaluated} == set(RULES) - {"host-not-read"}


def test_the_page_about_the_rules_is_up_to_date():
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../tools"))
    import audit_rules

    assert audit_rules.PAGE.read_text(encoding="utf-8") == audit_rules.page(), (
        "run PYTHONPATH=.collections python tests/tools/audit_rules.py"
    )
