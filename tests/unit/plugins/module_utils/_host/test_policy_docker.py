# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker as a keeper of memory settings: what it is asked, what its answers mean, what it is told."""

import json
import os
import sys

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import policy_containers, policy_docker, run
from ansible_collections.oom.forensics.plugins.module_utils._host.policy_calls import ManagerError, VanishedError
from ansible_collections.oom.forensics.plugins.module_utils._policy.model import SETTINGS

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from container_hosts import CACHE, MIB, NONE, WEB, cgroups_of, make, v1, v2  # noqa: E402

DOCKER = ["/usr/bin/docker", "--host", "unix:///run/docker.sock"]
INSPECT = DOCKER + [
    "inspect",
    "--type",
    "container",
    "--format",
    "[{{json .Id}},{{json .Name}},{{json .Config.Image}},{{json .Config.Labels}},{{json .State.Pid}},"
    "{{json .HostConfig.Memory}},{{json .HostConfig.MemorySwap}},{{json .HostConfig.MemoryReservation}},"
    "{{json .HostConfig.OomScoreAdj}},{{json .HostConfig.AutoRemove}}]",
]
DAEMON = {"/run/docker.sock": "", "/proc/77/comm": "dockerd", "/proc/4711/oom_score_adj": 300}
PATH = {1: "/docker/" + WEB, 2: "/system.slice/docker-{0}.scope".format(WEB)}
# Said by docker 28.2.2 and dockerd 20.10.24.
GONE = "Error response from daemon: No such container: {0}\n"
DOWN = "Cannot connect to the Docker daemon at unix:///run/docker.sock. Is the docker daemon running?\n"


def answer(identifier=WEB, name="/shop-web-1", memory=0, swap=0, reservation=0, labels=None, pid=4711, goes=False):
    said = [
        identifier,
        name,
        "shop/web:1",
        labels or {"tier": "front {{ x }}"},
        pid,
        memory,
        swap,
        reservation,
        300,
        goes,
    ]
    return json.dumps(said).encode() + b"\n"


@pytest.fixture(autouse=True)
def running(monkeypatch):
    monkeypatch.setattr(run, "live", lambda host: True)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    policy_docker._command.cache_clear()


def machine(folder, version, cgroup, *calls, told=None):
    """A host with one container, whose numbers are ``told``, and its target; then come the calls."""
    listed = [(INSPECT + [WEB], answer(**told))] if told is not None else []
    host = make(folder, version, {PATH[version]: cgroup}, listed + list(calls), DAEMON)
    if told is None:
        return host, None
    found, row = policy_docker.targets(host, cgroups_of(host))
    assert (len(found), row["error"]) == (1, None)
    return host, found[0]


def done(host):
    return not host.stream.calls


@pytest.mark.parametrize("goes, survives", [(False, (True, True, True)), (True, (True, False, False))])
def test_a_container_that_docker_removes_at_its_end_outlives_no_daemon(tmp_path, goes, survives):
    _host, found = machine(tmp_path, 1, v1(), told={"goes": goes})
    assert found.abilities["memory_max"].survives == survives


def test_a_target(tmp_path):
    cgroup = v1(64 * MIB, 96 * MIB, 32 * MIB)
    told = {"memory": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB}
    host, found = machine(tmp_path, 1, cgroup, told=told)
    assert (found.manager, found.identity, found.label) == ("docker", WEB, "docker shop-web-1")
    assert (found.path, found.unit, found.cgroup_version) == (PATH[1], None, 1)
    assert (found.workload["name"], found.workload["image"]) == ("shop-web-1", "shop/web:1")
    assert found.workload["labels"] == {"tier": "front {{ x }}"}
    sizes = {"memory_max": 64 * MIB, "memory_swap_max": 32 * MIB, "memory_low": 32 * MIB}
    assert found.stored == dict(sizes, oom_score_adjust=300)
    assert found.effective == dict(sizes, oom_score_adjust=300)
    assert (found.usage.current, found.usage.reclaimable) == (MIB, 12288)
    assert (found.critical, found.infrastructure, done(host)) == (False, False, True)


def test_the_row_of_the_coverage(tmp_path):
    host = make(tmp_path, 1, {PATH[1]: v1()}, [(INSPECT + [WEB], answer())], DAEMON)
    assert policy_docker.targets(host, cgroups_of(host))[1] == {
        "manager": "docker",
        "available": True,
        "workloads": 1,
        "error": None,
        "advice": None,
    }


@pytest.mark.parametrize(
    "version, memory, swap, reservation, stored",
    [
        (1, 0, 0, 0, (None, None, 0)),
        (1, NONE, NONE, NONE, (None, None, 0)),
        (1, NONE, -1, 0, (None, None, 0)),
        (1, 64 * MIB, -1, 64 * MIB, (64 * MIB, None, 0)),  # a soft limit that usage cannot get above
        (1, 64 * MIB, 64 * MIB, 6 * MIB, (64 * MIB, 0, 6 * MIB)),
        (2, 0, 0, 0, (None, None, 0)),
        (2, 64 * MIB, 96 * MIB, 64 * MIB, (64 * MIB, 32 * MIB, 64 * MIB)),
        (2, 2**62, 2**62 + MIB, NONE, (None, MIB, None)),
        (2, 2**62, NONE, 0, (None, None, 0)),
        (2, NONE, NONE, 0, (None, 0, 0)),  # what runc makes of two equal numbers
    ],
)
def test_what_the_numbers_of_the_engine_mean(tmp_path, version, memory, swap, reservation, stored):
    cgroup = v1() if version == 1 else v2()
    found = machine(tmp_path, version, cgroup, told={"memory": memory, "swap": swap, "reservation": reservation})[1]
    assert tuple(found.stored[each] for each in ("memory_max", "memory_swap_max", "memory_low")) == stored


LIMITED = {"memory": 64 * MIB, "swap": 96 * MIB}
RESERVED = dict(LIMITED, reservation=32 * MIB)
SAME = dict(LIMITED, reservation=64 * MIB)  # what we tell Docker for no soft limit
ORDERS = [
    (1, LIMITED, {"memory_max": 128 * MIB}, (128 * MIB, 160 * MIB, None)),
    (1, LIMITED, {"memory_swap_max": 0}, (64 * MIB, 64 * MIB, None)),
    (1, LIMITED, {"memory_swap_max": None}, (64 * MIB, NONE, None)),
    (1, LIMITED, {"memory_max": None}, (NONE, NONE, None)),
    (1, LIMITED, {"memory_low": 16 * MIB}, (None, None, 16 * MIB)),
    (1, {}, {"memory_max": 64 * MIB}, (64 * MIB, NONE, None)),
    (1, {}, {"memory_max": 64 * MIB, "memory_swap_max": 0, "memory_low": 8 * MIB}, (64 * MIB, 64 * MIB, 8 * MIB)),
    # A reservation above the limit would keep the container from starting again.
    (1, RESERVED, {"memory_max": 16 * MIB}, (16 * MIB, 48 * MIB, 16 * MIB)),
    (1, RESERVED, {"memory_max": 128 * MIB}, (128 * MIB, 160 * MIB, 32 * MIB)),
    (1, RESERVED, {"memory_low": 0}, (None, None, 64 * MIB)),
    (1, RESERVED, {"memory_max": None, "memory_low": 0}, (NONE, NONE, NONE)),
    (1, SAME, {"memory_max": 128 * MIB}, (128 * MIB, 160 * MIB, 128 * MIB)),
    (2, LIMITED, {"memory_max": None}, (2**62, 2**62 + 32 * MIB, None)),
    (2, LIMITED, {"memory_max": None, "memory_swap_max": None}, (2**62, NONE, None)),
    (2, LIMITED, {"memory_swap_max": None}, (64 * MIB, NONE, None)),
    (2, {}, {"memory_swap_max": 8 * MIB}, (2**62, 2**62 + 8 * MIB, None)),
    (2, RESERVED, {"memory_max": 16 * MIB}, (16 * MIB, 48 * MIB, 16 * MIB)),
]


def update(memory, both, reservation):
    names = ("--memory={0}", "--memory-swap={0}", "--memory-reservation={0}")
    options = [name.format(value) for name, value in zip(names, (memory, both, reservation)) if value is not None]
    return DOCKER + ["update"] + options + [WEB]


class Properties(list):
    """A systemd that takes every property."""

    def __call__(self, host, unit, properties, lasting):
        self.append((unit, properties, lasting))


@pytest.fixture
def properties(monkeypatch):
    taken = Properties()
    monkeypatch.setattr(policy_containers.policy_systemctl, "set_properties", taken)
    return taken


@pytest.mark.parametrize("version, told, wanted, numbers", ORDERS)
def test_an_update(tmp_path, properties, version, told, wanted, numbers):
    host, target = machine(tmp_path, version, v1() if version == 1 else v2(), (update(*numbers),), told=told)
    assert policy_docker.refusal(target, wanted) is None
    policy_docker.apply(host, target, wanted, lasting=True)
    assert done(host)


@pytest.mark.parametrize(
    "version, told, wanted, numbers",
    [
        (1, RESERVED, {"memory_max": 16 * MIB}, (64 * MIB, 96 * MIB, 32 * MIB)),
        (1, {}, {"memory_max": 16 * MIB, "memory_swap_max": 0}, (NONE, NONE, None)),
        (1, LIMITED, {"memory_low": 16 * MIB}, (None, None, 64 * MIB)),
        (2, {}, {"memory_max": 16 * MIB}, (2**62, NONE, None)),
        (2, RESERVED, {"memory_low": 16 * MIB}, (None, None, 32 * MIB)),
    ],
)
def test_undo(tmp_path, properties, version, told, wanted, numbers):
    host, target = machine(tmp_path, version, v1() if version == 1 else v2(), (update(*numbers),), told=told)
    kept = json.loads(json.dumps(policy_docker.before(target, wanted)))
    policy_docker.undo(host, kept)
    assert done(host)


def test_undo_where_docker_cannot_take_a_reservation_away(tmp_path, properties):
    host, target = machine(tmp_path, 2, v2(), (update(None, None, 6 * MIB),), told={})
    with pytest.raises(ManagerError, match="cannot take memory_low of {0} away".format(WEB)):
        policy_docker.undo(host, policy_docker.before(target, {"memory_low": 16 * MIB}))
    assert done(host)


@pytest.mark.parametrize(
    "version, told, wanted, sentence",
    [
        (1, {}, {"memory_max": 5 * MIB}, "no memory_max below 6M"),
        (1, LIMITED, {"memory_low": MIB}, "no memory_low below 6M"),
        (1, LIMITED, {"memory_low": 65 * MIB}, "no memory_low above memory_max"),
        (1, LIMITED, {"memory_low": 32 * MIB, "memory_max": 16 * MIB}, "no memory_low above memory_max"),
        (2, LIMITED, {"memory_low": None}, "no memory_low above memory_max"),
        (1, {}, {"memory_low": None}, "a soft limit and no protection"),
        (1, {}, {"memory_swap_max": 0}, "set memory_max beside memory_swap_max"),
        (1, LIMITED, {"memory_swap_max": 0, "memory_max": None}, "set memory_max beside memory_swap_max"),
        (2, RESERVED, {"memory_low": 0}, "cannot take memory_low away"),
    ],
)
def test_values_that_docker_cannot_take(tmp_path, version, told, wanted, sentence):
    cgroup = v1(told.get("memory", NONE)) if version == 1 else v2()
    host, target = machine(tmp_path, version, cgroup, told=told)
    assert sentence in policy_docker.refusal(target, wanted)
    with pytest.raises(ManagerError, match=sentence):
        policy_docker.apply(host, target, wanted, lasting=True)


def refusals(target):
    return {setting: target.abilities[setting].refusal for setting in SETTINGS if target.abilities[setting].refusal}


def test_what_docker_can_and_cannot_set(tmp_path):
    target = machine(tmp_path / "1", 1, v1(), told={})[1]
    assert set(refusals(target)) == {"memory_high", "memory_min", "oom_group", "oom_policy", "oom_score_adjust"}
    assert refusals(target)["memory_high"] == "cgroup v1 has no memory_high; boot the host with cgroup v2."
    assert target.abilities["memory_max"].survives == (True, True, True)
    target = machine(tmp_path / "2", 2, v2(), told={})[1]
    assert set(refusals(target)) == {"oom_group", "oom_policy", "oom_score_adjust"}
    high = target.abilities["memory_high"]
    assert (high.live, high.how) == (True, "`systemctl set-property --runtime docker-{0}.scope`".format(WEB))
    assert high.survives == (False, False, False)
    target = machine(tmp_path / "3", 1, v1(both=None), told={})[1]
    assert "swapaccount=1" in refusals(target)["memory_swap_max"]


def test_without_a_scope_there_is_no_memory_high(tmp_path):
    host = make(tmp_path, 2, {PATH[1]: v2()}, [(INSPECT + [WEB], answer())], DAEMON)
    target = policy_docker.targets(host, cgroups_of(host))[0][0]
    assert "use the cgroup driver systemd" in refusals(target)["memory_high"]


def test_memory_high_is_a_property_of_the_scope(tmp_path, properties):
    """With the limit of swap that the kernel has: systemd may know another one, and brings it back."""
    host, target = machine(tmp_path, 2, v2(swap=0, high=60 * MIB), told=LIMITED)
    unit = target.unit
    policy_docker.apply(host, target, {"memory_high": 32 * MIB, "memory_min": None}, lasting=False)
    policy_docker.undo(host, policy_docker.before(target, {"memory_high": 32 * MIB}))
    assert properties == [
        (unit, {"MemoryHigh": 32 * MIB, "MemoryMin": None, "MemorySwapMax": 0}, False),
        (unit, {"MemoryHigh": 60 * MIB, "MemorySwapMax": 0}, False),
    ]


def test_a_new_limit_of_swap_is_told_to_systemd_too(tmp_path, properties):
    host, target = machine(tmp_path, 2, v2(swap=5), (update(64 * MIB, 64 * MIB, None),), told=LIMITED)
    policy_docker.apply(host, target, {"memory_swap_max": 0}, lasting=True)
    assert properties == [(target.unit, {"MemoryMax": 64 * MIB, "MemorySwapMax": 0}, False)]


def remove_cgroup(folder):
    for name in os.listdir(folder):
        os.remove(os.path.join(folder, name))


def test_a_container_that_ends_before_the_change(tmp_path):
    call = (update(128 * MIB, 160 * MIB, None), b"", 1, GONE.format(WEB))
    host, target = machine(tmp_path, 1, v1(), call, told=LIMITED)
    remove_cgroup(str(tmp_path) + "/sys/fs/cgroup/memory" + PATH[1])
    with pytest.raises(VanishedError, match="No such container"):
        policy_docker.apply(host, target, {"memory_max": 128 * MIB}, lasting=True)


def test_a_change_that_the_engine_refuses(tmp_path):
    call = (
        update(16 * MIB, 48 * MIB, None),
        b"",
        1,
        "Error: unable to set memory limit to 16777216 (current usage: 2)\n",
    )
    host, target = machine(tmp_path, 1, v1(), call, told=LIMITED)
    with pytest.raises(ManagerError, match=r"`docker update` failed: .* \(current usage: 2\)\.$") as raised:
        policy_docker.apply(host, target, {"memory_max": 16 * MIB}, lasting=True)
    assert not isinstance(raised.value, VanishedError)


def test_a_daemon_that_went_down_before_the_change(tmp_path):
    call = (update(128 * MIB, 160 * MIB, None), b"", 1, DOWN)
    host, target = machine(tmp_path, 1, v1(), call, told=LIMITED)
    with pytest.raises(ManagerError, match="Cannot connect") as raised:
        policy_docker.apply(host, target, {"memory_max": 128 * MIB}, lasting=True)
    assert (isinstance(raised.value, VanishedError), "daemon's log" in raised.value.advice) == (False, True)


def test_one_call_tells_all_and_one_that_is_gone_is_left_out(tmp_path):
    gone = "f" * 64
    cgroups = {"/docker/" + each: v1() for each in (CACHE, WEB, gone)}
    said = answer(CACHE, "/cache") + answer(WEB)
    host = make(tmp_path, 1, cgroups, [(INSPECT + [CACHE, WEB, gone], said, 1, GONE.format(gone))], DAEMON)
    listed = cgroups_of(host)
    remove_cgroup(str(tmp_path) + "/sys/fs/cgroup/memory/docker/" + gone)
    found, row = policy_docker.targets(host, listed)
    assert [target.label for target in found] == ["docker cache", "docker shop-web-1"]
    assert (row["workloads"], row["error"], done(host)) == (2, None, True)


def test_a_container_of_another_daemon(tmp_path):
    host = make(tmp_path, 1, {PATH[1]: v1()}, [(INSPECT + [WEB], b"", 1, GONE.format(WEB))], DAEMON)
    target = policy_docker.targets(host, cgroups_of(host))[0][0]
    assert (target.manager, target.identity) == ("none", WEB)
    assert "another daemon does" in refusals(target)["memory_max"]


@pytest.mark.parametrize("calls, sentence", [([], "No Docker daemon runs"), ([DOWN], "Cannot connect to the Docker")])
def test_a_daemon_that_does_not_answer(tmp_path, calls, sentence):
    script = [(INSPECT + [WEB], b"", 1, stderr) for stderr in calls]
    host = make(tmp_path, 1, {PATH[1]: v1(64 * MIB)}, script, DAEMON if calls else None)
    found, row = policy_docker.targets(host, cgroups_of(host))
    assert [(each.manager, each.identity, each.stored) for each in found] == [("docker", WEB, {})]
    assert found[0].effective["memory_max"] == 64 * MIB
    assert set(refusals(found[0])) == set(SETTINGS)
    assert sentence in refusals(found[0])["memory_max"]
    assert (row["available"], row["workloads"]) == (False, 1)
    assert sentence in row["error"]
    assert row["advice"]


def test_without_docker_there_is_no_error(tmp_path):
    host = make(tmp_path, 1, {"/x": v1()})
    found, row = policy_docker.targets(host, cgroups_of(host))
    assert (found, row["available"], row["error"]) == ([], False, None)


def test_containers_of_kubelet_are_its_own(tmp_path):
    path = "/kubepods/burstable/pod3f1c9a52-7d0e-4b8a-9c64-5e2f8a17b0d3/" + WEB
    name = "/k8s_web_web-7c9d_shop_3f1c9a52-7d0e-4b8a-9c64-5e2f8a17b0d3_0"
    host = make(tmp_path, 1, {path: v1()}, [(INSPECT + [WEB], answer(name=name))], DAEMON)
    target = policy_docker.targets(host, cgroups_of(host))[0][0]
    assert (target.manager, target.workload["pod_name"]) == ("none", "web-7c9d")
    assert "kubelet" in refusals(target)["memory_max"]


def test_a_container_below_a_parent_of_the_administrator(tmp_path):
    """Its path does not say whose it is: the daemon does, and nobody is blamed for one that it does not know."""
    cgroups = {"/batch/" + each: v1() for each in (CACHE, WEB)}
    host = make(tmp_path, 1, cgroups, [(INSPECT + [CACHE, WEB], answer(), 1, GONE.format(CACHE))], DAEMON)
    found, row = policy_docker.targets(host, cgroups_of(host))
    assert [(each.manager, each.path) for each in found] == [("docker", "/batch/" + WEB)]
    assert row["error"] is None


def test_what_is_inside_of_a_container_is_no_target(tmp_path):
    inner = PATH[1] + "/docker/" + CACHE
    cgroups = {PATH[1]: v1(), inner: v1(), PATH[1] + "/init.scope": v1()}
    host = make(tmp_path, 1, cgroups, [(INSPECT + [WEB], answer())], DAEMON)
    found = policy_docker.targets(host, cgroups_of(host))[0]
    assert [target.path for target in found] == [PATH[1]]


def test_containers_of_another_users_docker(tmp_path):
    path = "/user.slice/user-1000.slice/user@1000.service/app.slice/docker-{0}.scope".format(WEB)
    host = make(tmp_path, 2, {path: v2()}, (), DAEMON)
    target = policy_docker.targets(host, cgroups_of(host))[0][0]
    assert (target.manager, target.unit) == ("none", None)
    assert "another user" in refusals(target)["memory_max"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a socket to another user")
def test_docker_of_a_user(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/user/1000/docker.sock")
    path = "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{0}.scope".format(WEB)
    argv = [word.replace("/run/docker", "/run/user/1000/docker") for word in INSPECT] + [WEB]
    host = make(tmp_path, 2, {path: v2()}, [(argv, answer())], {"/run/user/1000/docker.sock": ""})
    os.chown(str(tmp_path) + "/run/user/1000/docker.sock", 1000, 1000)
    target = policy_docker.targets(host, cgroups_of(host))[0][0]
    assert (target.manager, target.workload["name"], target.unit) == ("docker", "shop-web-1", None)


@pytest.mark.parametrize("said", [b"", b"null\n", b"[1, 2]\n", b'["x",1,2,3,4,5,6,7,8]\n', b"\xff\n", b"[" * 5000])
def test_an_answer_that_is_none(tmp_path, said):
    host = make(tmp_path, 1, {PATH[1]: v1()}, [(INSPECT + [WEB], said)], DAEMON)
    assert policy_docker.targets(host, cgroups_of(host))[0][0].manager == "none"
