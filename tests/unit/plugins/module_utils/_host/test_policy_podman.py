# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Podman as a keeper of memory settings: what it is asked, what its answers mean, what it is told."""

import json
import os
import sys

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import (
    policy_containers,
    policy_kernel,
    policy_podman,
    run,
)
from ansible_collections.oom.forensics.plugins.module_utils._host.policy_calls import ManagerError, VanishedError
from ansible_collections.oom.forensics.plugins.module_utils._policy.model import SETTINGS

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from container_hosts import CACHE, MIB, NONE, WEB, cgroups_of, make, v1, v2  # noqa: E402

PODMAN = "/usr/bin/podman"
HELP = [PODMAN, "update", "--help"]
INSPECT = [
    PODMAN,
    "inspect",
    "--type",
    "container",
    "--format",
    "[{{json .ID}},{{json .Name}},{{json .ImageName}},{{json .Config.Labels}},{{json .IsInfra}},{{json .State.Pid}},"
    "{{json .HostConfig.OomScoreAdj}},{{json .HostConfig.Memory}},{{json .HostConfig.MemorySwap}},"
    "{{json .HostConfig.MemoryReservation}},{{json .HostConfig.MemorySwappiness}},{{json .HostConfig.CpuShares}},"
    "{{json .HostConfig.CpuPeriod}},{{json .HostConfig.CpuQuota}},{{json .HostConfig.CpuRealtimePeriod}},"
    "{{json .HostConfig.CpuRealtimeRuntime}},{{json .HostConfig.CpusetCpus}},{{json .HostConfig.CpusetMems}},"
    "{{json .HostConfig.PidsLimit}},{{json .HostConfig.BlkioWeight}},{{json .HostConfig.BlkioWeightDevice}},"
    "{{json .HostConfig.BlkioDeviceReadBps}},{{json .HostConfig.BlkioDeviceWriteBps}},"
    "{{json .HostConfig.BlkioDeviceReadIOps}},{{json .HostConfig.BlkioDeviceWriteIOps}}]",
]
# The lines of options of 4.3.1, shortened.
HELP_4_3 = b"""update an existing container

Options:
      --blkio-weight string                      Block IO weight
      --blkio-weight-device DEVICE_NAME:WEIGHT   Block IO weight (relative device weight, format: DEVICE_NAME:WEIGHT)
      --cpu-period uint                          Limit the CPU CFS (Completely Fair Scheduler) period
      --cpu-quota int                            Limit the CPU CFS (Completely Fair Scheduler) quota
  -c, --cpu-shares uint                          CPU shares (relative weight)
      --cpuset-cpus string                       CPUs in which to allow execution (0-3, 0,1)
      --device-read-bps strings                  Limit read rate (e.g. --device-read-bps=/dev/sda:1mb)
      --cpu-rt-period uint                       Limit the CPU real-time period in microseconds
      --cpu-rt-runtime int                       Limit the CPU real-time runtime in microseconds
  -m, --memory <number>[<unit>]                  Memory limit
      --memory-reservation <number>[<unit>]      Memory soft limit
      --memory-swap string                       Swap limit equal to memory plus swap
      --memory-swappiness int                    Tune container memory swappiness (0 to 100, or -1) (default -1)
"""
# Written, not captured: 5.1 has these too.
HELP_5_1 = HELP_4_3 + b"      --pids-limit int\n      --restart string\n"
# 4.3.1, of a verb that there is not: its own help, with status 0. So does a Podman before 4.3 with `update`.
HELP_OLD = b"""Manage pods, containers and images

Usage:
  podman [options] [command]

Available Commands:
  update-nothing  memory

Options:
      --cgroup-manager string       Cgroup manager to use
"""
PATH = {1: "/libpod_parent/libpod-" + WEB, 2: "/machine.slice/libpod-{0}.scope".format(WEB)}
ALIVE = {"/run/libpod/alive": "", "/proc/4711/oom_score_adj": 0}
# 4.3.1 with runc.
NO_SUCH = 'Error: no container with name or ID "{0}" found: no such container\n'
STOPPED = (
    'time="2026-11-24T10:54:32Z" level=error msg="container does not exist"\nError: `/usr/bin/runc update` failed\n'
)


def answer(identifier=WEB, name="web", memory=0, swap=0, reservation=0, labels=None, infra=False, others=()):
    said = [identifier, name, "localhost/web:1", labels, infra, 4711, 0, memory, swap, reservation]
    return json.dumps(said + list(others or NO_OTHERS)).encode() + b"\n"


NO_OTHERS = (0, 0, 0, 0, 0, 0, "", "", 2048, 0, None, None, None, None, None)
_DEVICES = (None, [{"Path": "/dev/sda", "Rate": 1048576}], None, None, None)
OTHERS = (60, 333, 100000, 50000, 1000000, 950000, "0-1", "", 77, 0) + _DEVICES
REPEATED = [
    "--memory-swappiness=60",
    "--cpu-shares=333",
    "--cpu-period=100000",
    "--cpu-quota=50000",
    "--cpu-rt-period=1000000",
    "--cpu-rt-runtime=950000",
    "--cpuset-cpus=0-1",
    "--pids-limit=77",
    "--device-read-bps=/dev/sda:1048576",
]


@pytest.fixture(autouse=True)
def running(monkeypatch):
    monkeypatch.setattr(run, "live", lambda host: True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.delenv("CONTAINERS_CONF", raising=False)


def machine(folder, version, cgroup, *calls, said=None, options=HELP_4_3, path=None):
    """A host with one container, of which Podman tells what is ``said``, and its target; then come the calls."""
    script = [(HELP, options), (INSPECT + [WEB], said or answer())] + list(calls)
    host = make(folder, version, {path or PATH[version]: cgroup}, script, ALIVE)
    found, row = policy_podman.targets(host, cgroups_of(host))
    assert (len(found), row["error"], row["available"]) == (1, None, True)
    return host, found[0]


def done(host):
    return not host.stream.calls


def test_a_target(tmp_path):
    """Podman 4.3 tells what the container was made with, the kernel what it has."""
    said = answer(memory=64 * MIB, swap=128 * MIB, labels={"tier": "front {{ x }}"})
    host, found = machine(tmp_path, 1, v1(96 * MIB, 96 * MIB), said=said)
    assert (found.manager, found.identity, found.label) == ("podman", WEB, "podman web")
    assert found.workload["labels"] == {"tier": "front {{ x }}"}
    assert found.stored == {
        "memory_max": 64 * MIB,
        "memory_swap_max": 64 * MIB,
        "memory_low": 0,
        "oom_score_adjust": 0,
    }
    assert found.effective == {"memory_max": 96 * MIB, "memory_swap_max": 0, "memory_low": 0, "oom_score_adjust": 0}
    assert found.abilities["memory_max"].survives == (False, None, False)
    assert (found.kept, found.infrastructure, done(host)) == ((), False, True)


LIMITED = v1(64 * MIB, 96 * MIB)
RESERVED = v1(64 * MIB, 96 * MIB, 32 * MIB)


@pytest.mark.parametrize(
    "version, cgroup, wanted, options",
    [
        (1, LIMITED, {"memory_max": 128 * MIB}, ["--memory=134217728", "--memory-swap=167772160"]),
        (1, LIMITED, {"memory_swap_max": 0}, ["--memory=67108864", "--memory-swap=67108864"]),
        (1, LIMITED, {"memory_max": None}, ["--memory={0}".format(NONE), "--memory-swap={0}".format(NONE)]),
        (1, LIMITED, {"memory_low": 16 * MIB}, ["--memory-reservation=16777216"]),
        (
            1,
            RESERVED,
            {"memory_max": 128 * MIB},
            ["--memory=134217728", "--memory-swap=167772160", "--memory-reservation=33554432"],
        ),
        (1, RESERVED, {"memory_low": 0}, ["--memory-reservation={0}".format(NONE)]),
        (2, v2(64 * MIB, 8 * MIB), {"memory_max": 128 * MIB}, ["--memory=134217728", "--memory-swap=142606336"]),
        (2, v2(), {"memory_low": None}, ["--memory-reservation={0}".format(NONE)]),
        (2, v2(low=8 * MIB), {"memory_low": 0}, ["--memory-reservation=1"]),
    ],
)
def test_an_update(tmp_path, monkeypatch, version, cgroup, wanted, options):
    monkeypatch.setattr(policy_containers.policy_systemctl, "set_properties", lambda *arguments, **named: None)
    host, target = machine(tmp_path, version, cgroup, ([PODMAN, "update"] + options + [WEB],))
    policy_podman.apply(host, target, wanted, lasting=True)
    assert done(host)


def test_undo_gives_back_what_the_kernel_had(tmp_path):
    said = answer(memory=512 * MIB, swap=512 * MIB)
    back = [PODMAN, "update", "--memory=67108864", "--memory-swap=100663296", "--memory-reservation=33554432", WEB]
    host, target = machine(tmp_path, 1, RESERVED, (back,), said=said)
    kept = json.loads(json.dumps(policy_podman.before(target, {"memory_max": None, "memory_low": 0})))
    policy_podman.undo(host, kept)
    assert done(host)


def test_a_podman_that_remembers_is_told_all_other_limits_again(tmp_path):
    """5.1 to 5.3 forget those that they are not told (#24610)."""
    limits = ["--memory=134217728", "--memory-swap=167772160"]
    changed = [str(each).replace("77", "99") for each in REPEATED]
    told = OTHERS[:8] + (99,) + OTHERS[9:]
    host, target = machine(
        tmp_path,
        1,
        LIMITED,
        ([PODMAN, "update"] + limits + REPEATED + [WEB],),
        (HELP, HELP_5_1),
        (INSPECT + [WEB], answer(others=told)),
        ([PODMAN, "update", "--memory=67108864", "--memory-swap=100663296"] + changed + [WEB],),
        said=answer(others=OTHERS),
        options=HELP_5_1,
    )
    assert target.abilities["memory_max"].survives == (True, None, True)
    kept = policy_podman.before(target, {"memory_max": 128 * MIB})
    policy_podman.apply(host, target, {"memory_max": 128 * MIB}, lasting=True)
    policy_podman.undo(host, kept)  # with what the other limits are by now
    assert done(host)


MEMORY, BOTH, SOFT = 64 * MIB, 96 * MIB, 32 * MIB
TOLD_MEMORY = ["--memory=67108864", "--memory-swap=100663296"]
TOLD_SOFT = "--memory-reservation=33554432"


@pytest.mark.parametrize(
    ("told", "wanted", "options"),
    [
        ((MEMORY, BOTH, 0), {"memory_low": 16 * MIB}, ["--memory-reservation=16777216"] + TOLD_MEMORY),
        ((MEMORY, BOTH, SOFT), {"memory_low": 16 * MIB}, ["--memory-reservation=16777216"] + TOLD_MEMORY),
        ((MEMORY, BOTH, SOFT), {"memory_max": 128 * MIB}, ["--memory=134217728", "--memory-swap=167772160", TOLD_SOFT]),
        # Podman tells no limit of swap as 0 (4.3) or -1, and doubles what it is not told.
        (
            (MEMORY, 0, 0),
            {"memory_low": MIB},
            ["--memory-reservation=1048576", TOLD_MEMORY[0], "--memory-swap=" + str(NONE)],
        ),
        (
            (MEMORY, -1, 0),
            {"memory_low": MIB},
            ["--memory-reservation=1048576", TOLD_MEMORY[0], "--memory-swap=" + str(NONE)],
        ),
        ((0, 0, 0), {"memory_low": MIB}, ["--memory-reservation=1048576"]),
    ],
)
def test_a_podman_that_remembers_is_told_its_memory_limits_again(tmp_path, told, wanted, options):
    update = [PODMAN, "update"] + options + ["--pids-limit=2048", WEB]
    said = answer(memory=told[0], swap=told[1], reservation=told[2], others=(-1,) + NO_OTHERS[1:])
    host, target = machine(tmp_path, 1, LIMITED, (update,), said=said, options=HELP_5_1)
    policy_podman.apply(host, target, wanted, lasting=True)
    assert done(host)


@pytest.mark.parametrize(
    ("memory", "swappiness", "kept"),
    # 4.3.1: 0 of a container with no limit of memory at all, and -1 beside one, where nobody has set it.
    [(0, 0, False), (MEMORY, -1, False), (MEMORY, 0, True), (0, 60, True), (MEMORY, None, False)],
)
def test_a_swappiness_that_somebody_has_set_is_kept(tmp_path, memory, swappiness, kept):
    said = answer(memory=memory, others=(swappiness,) + NO_OTHERS[1:])
    found = machine(tmp_path, 1, LIMITED, said=said, options=HELP_5_1)[1].kept
    assert [each for each in found if "swappiness" in each] == (
        ["--memory-swappiness={0}".format(swappiness)] if kept else []
    )


def test_a_podman_that_forgets_is_told_no_other_limit(tmp_path):
    """It resets none (4.3 with runc), and what it tells of them may be older than an update by somebody."""
    assert machine(tmp_path, 1, LIMITED, said=answer(others=OTHERS))[1].kept == ()


def refusals(target):
    return {setting: target.abilities[setting].refusal for setting in SETTINGS if target.abilities[setting].refusal}


def test_a_podman_without_update(tmp_path):
    found = machine(tmp_path, 1, LIMITED, options=HELP_OLD)[1]
    assert set(refusals(found)) == set(SETTINGS)
    assert "no `podman update` (it came with 4.3)" in refusals(found)["memory_max"]
    assert found.stored["memory_max"] is None


def test_what_podman_cannot_set(tmp_path):
    found = machine(tmp_path, 1, LIMITED)[1]
    assert set(refusals(found)) == {"memory_high", "memory_min", "oom_group", "oom_policy", "oom_score_adjust"}
    found = machine(tmp_path / "2", 2, v2())[1]
    assert set(refusals(found)) == {"oom_group", "oom_policy", "oom_score_adjust"}
    assert found.abilities["memory_high"].survives == (False, None, False)


def test_values_that_podman_cannot_take(tmp_path):
    host, target = machine(tmp_path, 1, v1())
    with pytest.raises(ManagerError, match="set memory_max beside memory_swap_max"):
        policy_podman.apply(host, target, {"memory_swap_max": 0}, lasting=True)


def test_a_container_that_a_unit_makes_anew(tmp_path):
    labels = {"PODMAN_SYSTEMD_UNIT": "container-web.service"}
    update = machine(tmp_path, 1, LIMITED, said=answer(labels=labels), options=HELP_5_1)[1].abilities["memory_max"]
    assert update.survives == (False, None, False)
    assert "container-web.service makes the container anew" in update.how


def test_a_container_inside_of_a_service_is_systemds(tmp_path):
    path = "/system.slice/web.service/libpod-payload-" + WEB
    labels = {"PODMAN_SYSTEMD_UNIT": "web.service"}
    found = machine(tmp_path, 2, v2(), said=answer(labels=labels), path=path)[1]
    assert (found.manager, found.identity, found.unit) == ("systemd", "web.service", "web.service")
    assert (found.path, found.workload["name"], found.abilities) == (path, "web", {})


def test_the_limits_that_crun_keeps_inside_of_the_scope(tmp_path):
    """crun 1.8.1: the scope has none, and systemd knows of none; an update changes those inside."""
    inner = PATH[2] + "/container"
    cgroups = {PATH[2]: v2(), inner: v2(64 * MIB, 0, 16 * MIB), inner + "/init.scope": v2()}
    host = make(tmp_path, 2, cgroups, [(HELP, HELP_4_3), (INSPECT + [WEB], answer())], ALIVE)
    target = policy_podman.targets(host, cgroups_of(host))[0][0]
    assert (target.path, target.unit) == (PATH[2], PATH[2].rpartition("/")[2])
    limits = {"memory_max": 64 * MIB, "memory_swap_max": 0, "memory_low": 16 * MIB}
    assert {name: target.effective[name] for name in limits} == limits
    assert policy_kernel.effective(host, PATH[2], [4711]) == target.effective
    assert "the runtime runc" in refusals(target)["memory_high"]
    with pytest.raises(ManagerError, match="the runtime runc"):
        policy_podman.apply(host, target, {"memory_high": 32 * MIB}, lasting=True)
    options = ["--memory=33554432", "--memory-swap=33554432", "--memory-reservation=16777216"]
    host.stream.calls.append(([PODMAN, "update"] + options + [WEB],))
    policy_podman.apply(host, target, {"memory_max": 32 * MIB}, lasting=True)
    assert done(host)


def test_the_process_that_holds_a_pod(tmp_path):
    assert machine(tmp_path, 1, v1(), said=answer(infra=True))[1].infrastructure is True


def remove_cgroup(folder):
    for name in os.listdir(folder):
        os.remove(os.path.join(folder, name))


@pytest.mark.parametrize("stderr", [NO_SUCH.format(WEB), STOPPED])
def test_a_container_that_ends_before_the_change(tmp_path, stderr):
    call = ([PODMAN, "update", "--memory=134217728", "--memory-swap=167772160", WEB], b"", 125, stderr)
    host, target = machine(tmp_path, 1, LIMITED, call)
    remove_cgroup(str(tmp_path) + "/sys/fs/cgroup/memory" + PATH[1])
    with pytest.raises(VanishedError, match="It ended meanwhile"):
        policy_podman.apply(host, target, {"memory_max": 128 * MIB}, lasting=True)


def test_two_calls_tell_all_and_one_that_is_gone_is_left_out(tmp_path):
    cgroups = {"/libpod_parent/libpod-" + each: v1() for each in (CACHE, WEB)}
    complaint = "Error: inspecting object: no such container {0}\n".format(CACHE)
    script = [(HELP, HELP_4_3), (INSPECT + [CACHE, WEB], answer(), 125, complaint)]
    host = make(tmp_path, 1, cgroups, script, ALIVE)
    listed = cgroups_of(host)
    remove_cgroup(str(tmp_path) + "/sys/fs/cgroup/memory/libpod_parent/libpod-" + CACHE)
    found, row = policy_podman.targets(host, listed)
    assert ([target.identity for target in found], row["error"], done(host)) == ([WEB], None, True)


def test_a_store_that_this_podman_does_not_know(tmp_path):
    complaint = "Error: inspecting object: no such container {0}\n".format(WEB)
    host = make(tmp_path, 1, {PATH[1]: v1()}, [(HELP, HELP_4_3), (INSPECT + [WEB], b"", 125, complaint)], ALIVE)
    found = policy_podman.targets(host, cgroups_of(host))[0]
    assert [target.manager for target in found] == ["none"]
    assert "CONTAINERS_CONF" in refusals(found[0])["memory_max"]


def test_podman_is_not_asked_where_it_never_ran(tmp_path):
    host = make(tmp_path, 1, {PATH[1]: v1()})
    found, row = policy_podman.targets(host, cgroups_of(host))
    assert [(target.manager, target.stored) for target in found] == [("podman", {})]
    assert "cannot be asked" in refusals(found[0])["memory_max"]
    assert (row["available"], row["workloads"], "cannot be asked" in row["error"]) == (False, 1, True)


def test_podman_is_asked_nothing_where_it_has_no_container(tmp_path):
    host = make(tmp_path, 1, {"/docker/" + WEB: v1()}, files=ALIVE)
    assert policy_podman.targets(host, cgroups_of(host)) == (
        [],
        {"manager": "podman", "available": True, "workloads": 0, "error": None, "advice": None},
    )


def test_containers_of_another_user(tmp_path):
    path = "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{0}.scope/container".format(WEB)
    host = make(tmp_path, 2, {path: v2()}, files=ALIVE)
    found = policy_podman.targets(host, cgroups_of(host))[0]
    assert [target.manager for target in found] == ["none"]
    assert "another user" in refusals(found[0])["memory_max"]


def test_the_monitor_is_no_target(tmp_path):
    cgroups = {PATH[2]: v2(), "/machine.slice/libpod-conmon-{0}.scope".format(WEB): v2()}
    host = make(tmp_path, 2, cgroups, [(HELP, HELP_4_3), (INSPECT + [WEB], answer())], ALIVE)
    assert [target.path for target in policy_podman.targets(host, cgroups_of(host))[0]] == [PATH[2]]
