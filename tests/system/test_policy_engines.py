# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory settings of real containers, changed by real engines, and read from the kernel's own files."""

import os
import time
from pathlib import Path

import engines as real
import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import (
    cgroupfs,
    policy_docker,
    policy_kernel,
    policy_podman,
    run,
)
from ansible_collections.oom.forensics.plugins.module_utils._host.policy_calls import ManagerError, VanishedError

HOST = run.Host()
MIB = 1 << 20
NONE = 9223372036854771712  # what v1 prints for no limit
MANAGERS = {"docker": policy_docker, "podman": policy_podman}
SIZES = ("memory_max", "memory_swap_max", "memory_low")
# Everything else that an update may reset, by controller.
OTHERS = {
    "cpu": ("cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    "cpuset": ("cpuset.cpus",),
    "pids": ("pids.max",),
}
OTHER_OPTIONS = ("--cpus", "0.5", "--cpu-shares", "333", "--cpuset-cpus", "0", "--pids-limit", "77")

pytestmark = pytest.mark.skipif(
    not Path("/sys/fs/cgroup/memory").is_dir(), reason="the numbers are those of cgroup v1, which is not mounted here"
)


@pytest.fixture(autouse=True)
def daemon_looked_for_anew():
    policy_docker._command.cache_clear()


@pytest.fixture(params=["docker", "podman"])
def engine(request):
    return request.getfixturevalue(request.param)


def cgroups_of(engine, host=HOST):
    """All cgroups but those of containers that no test made."""
    cgroups, _coverage = cgroupfs.read(host, with_stat=policy_kernel.RECLAIMABLE)
    return [each for each in cgroups if each["workload"]["id"] in [None, *engine.made]]


def targets(engine, host=HOST):
    return MANAGERS[engine.name].targets(host, cgroups_of(engine, host))


def target(engine, container, host=HOST):
    return next(each for each in targets(engine, host)[0] if each.identity == container)


def change(engine, container, wanted, host=HOST):
    """Make a change as a run does it; what is needed to undo it."""
    manager = MANAGERS[engine.name]
    found = target(engine, container)
    assert manager.refusal(found, wanted) is None
    before = manager.before(found, wanted)
    manager.apply(host, found, wanted, lasting=True)
    return before


def numbers(engine, container):
    """Limit of memory, of memory with swap, and soft limit: the kernel's own files, read without this collection."""
    names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes")
    return tuple(int(engine.kernel_file(container, name, name)) for name in names)


def others(engine, container):
    path = engine.cgroup(container)
    folders = {name: Path("/sys/fs/cgroup") / name / path.lstrip("/") for name in OTHERS}
    return {name: (folders[kind] / name).read_text() for kind, files in OTHERS.items() for name in files}


class Counter:
    """Commands that really run, and are remembered."""

    def __init__(self):
        self.calls = []

    def __call__(self, argv):
        self.calls.append(list(argv))
        return run.popen(argv)


STEPS = [
    # set, changed, removed: what is wanted, and the three numbers of the kernel behind it
    ({"memory_max": 64 * MIB}, (64 * MIB, NONE, NONE)),
    ({"memory_swap_max": 0}, (64 * MIB, 64 * MIB, NONE)),
    ({"memory_max": 96 * MIB}, (96 * MIB, 96 * MIB, NONE)),
    ({"memory_swap_max": 32 * MIB}, (96 * MIB, 128 * MIB, NONE)),
    ({"memory_max": 48 * MIB}, (48 * MIB, 80 * MIB, NONE)),
    ({"memory_low": 16 * MIB}, (48 * MIB, 80 * MIB, 16 * MIB)),
    ({"memory_low": 24 * MIB, "memory_max": 64 * MIB}, (64 * MIB, 96 * MIB, 24 * MIB)),
    ({"memory_swap_max": None}, (64 * MIB, NONE, 24 * MIB)),
    ({"memory_max": None, "memory_low": 0}, (NONE, NONE, NONE)),
    ({"memory_max": 32 * MIB, "memory_swap_max": 8 * MIB, "memory_low": 8 * MIB}, (32 * MIB, 40 * MIB, 8 * MIB)),
    ({"memory_max": None, "memory_swap_max": None, "memory_low": 0}, (NONE, NONE, NONE)),
]


def test_each_setting_is_set_changed_and_removed(engine):
    container = engine.run("steps", *OTHER_OPTIONS)
    pid, limits = engine.first_process(container), others(engine, container)
    for wanted, kernel in STEPS:
        change(engine, container, wanted)
        assert numbers(engine, container) == kernel, wanted
        assert {name: target(engine, container).effective[name] for name in wanted} == wanted
        assert (engine.first_process(container), others(engine, container)) == (pid, limits)
    assert Path("/proc/{0}/cgroup".format(pid)).exists()


def test_a_soft_limit_is_removed_below_a_limit(engine):
    container = engine.run("soft", "--memory", "64m", "--memory-reservation", "32m")
    change(engine, container, {"memory_low": 0})
    assert target(engine, container).effective["memory_low"] == 0
    assert numbers(engine, container)[2] >= 64 * MIB
    change(engine, container, {"memory_max": 128 * MIB})
    assert target(engine, container).effective["memory_low"] == 0
    assert numbers(engine, container)[2] >= 128 * MIB


def test_what_docker_was_told_is_what_the_kernel_has(docker):
    container = docker.run("stored", "--memory", "64m", "--oom-score-adj", "300")
    for wanted, _kernel in STEPS:
        change(docker, container, wanted)
        found = target(docker, container)
        assert found.stored == found.effective
    assert found.stored["oom_score_adjust"] == 300


def test_what_podman_was_told_stays_what_it_was_made_with(podman):
    container = podman.run("stored", "--memory", "64m")
    change(podman, container, {"memory_max": 96 * MIB})
    found = target(podman, container)
    assert (found.stored["memory_max"], found.effective["memory_max"]) == (64 * MIB, 96 * MIB)


def test_undo_gives_back_what_was(engine):
    container = engine.run("undone", *OTHER_OPTIONS, "--memory", "64m", "--memory-reservation", "32m")
    pid, before = engine.first_process(container), numbers(engine, container)
    limits, manager = others(engine, container), MANAGERS[engine.name]
    kept = change(engine, container, {"memory_max": 16 * MIB, "memory_swap_max": 0, "memory_low": 8 * MIB})
    assert numbers(engine, container) == (16 * MIB, 16 * MIB, 8 * MIB)
    for _again in range(2):
        manager.undo(HOST, kept)
        assert (numbers(engine, container), others(engine, container)) == (before, limits)
    assert engine.first_process(container) == pid
    plain = engine.run("undone-plain")
    kept = change(engine, plain, {"memory_max": 16 * MIB, "memory_swap_max": 0})
    manager.undo(HOST, kept)
    assert numbers(engine, plain) == (NONE, NONE, NONE)


def test_what_survives_a_restart_is_what_was_promised(engine):
    container = engine.run("restarted", "--memory", "64m", "--memory-reservation", "32m")
    survives = target(engine, container).abilities["memory_max"].survives
    before = numbers(engine, container)
    change(engine, container, {"memory_max": 16 * MIB, "memory_swap_max": MIB})
    changed = numbers(engine, container)
    assert changed[:2] == (16 * MIB, 17 * MIB)
    engine.call("restart", "--time", "0", container)
    assert numbers(engine, container) == (changed if survives.workload_restart else before)
    assert survives.workload_restart is (engine.name == "docker")


def test_what_survives_a_restart_of_a_container_that_docker_removes_at_its_end(docker):
    """At a restart, Docker 20.10 now and then removes it all the same (it may look behind the end of its exception)."""
    for _attempt in range(5):
        container = docker.run("passing", "--rm", "--memory", "64m")
        assert target(docker, container).abilities["memory_max"].survives == (True, False, False)
        change(docker, container, {"memory_max": 16 * MIB})
        docker.call("restart", "--time", "0", container, check=False)
        if kept(docker, container):
            break
    assert numbers(docker, container)[0] == 16 * MIB
    docker.stop(container)
    real.wait_for(lambda: not there(docker, container), "its removal")


def kept(docker, container):
    """Whether it is there still when Docker, which takes milliseconds to remove one, has had a second for it."""
    deadline = time.monotonic() + 1
    while there(docker, container) and time.monotonic() < deadline:
        time.sleep(0.1)
    return there(docker, container)


def there(docker, container):
    return container in docker.call("ps", "--all", "--quiet", "--no-trunc")


@pytest.mark.parametrize(
    "wanted",
    [{"memory_max": 16 * MIB}, {"memory_low": 0}, {"memory_max": None}, {"memory_max": None, "memory_low": 0}],
)
def test_docker_starts_a_changed_container_again(docker, wanted):
    """dockerd takes an update by which a reservation is above its limit, and then refuses to start the container."""
    container = docker.run("started", "--memory", "64m", "--memory-reservation", "32m")
    change(docker, container, wanted)
    changed = numbers(docker, container)
    docker.stop(container)
    docker.call("start", container)
    assert numbers(docker, container) == changed


def test_a_container_that_vanishes_before_the_change(engine):
    container = engine.run("vanishing", "--memory", "64m")
    found, manager = target(engine, container), MANAGERS[engine.name]
    kept = manager.before(found, {"memory_max": 96 * MIB})
    engine.remove(container)
    with pytest.raises(VanishedError, match="It ended meanwhile: `{0} update` failed".format(engine.name)):
        manager.apply(HOST, found, {"memory_max": 96 * MIB}, lasting=True)
    with pytest.raises(VanishedError):
        manager.undo(HOST, kept)


def test_a_container_that_vanishes_while_all_are_listed(engine):
    stays, goes = engine.run("stays"), engine.run("goes")
    cgroups = cgroups_of(engine)
    engine.remove(goes)
    found, row = MANAGERS[engine.name].targets(HOST, cgroups)
    assert ([each.identity for each in found], row["error"]) == ([stays], None)


def test_a_limit_below_the_usage_is_the_engines_to_refuse(engine):
    eating = ("sh", "-c", "x=$(tail -c 30000000 /dev/zero | tr '\\0' a); while :; do sleep 1; done")
    container = engine.run("large", "--memory", "64m", command=eating)
    read = "memory.usage_in_bytes"
    real.wait_for(lambda: int(engine.kernel_file(container, read, read)) > 30000000, "30 MB in use", 20)
    before = numbers(engine, container)
    with pytest.raises(ManagerError, match=r"unable to set memory limit to 8388608 \(current usage: [0-9]+") as raised:
        change(engine, container, {"memory_max": 8 * MIB, "memory_swap_max": 0})
    assert not isinstance(raised.value, VanishedError)
    assert "higher memory_max" in raised.value.advice
    assert (numbers(engine, container), engine.kills(container)) == (before, 0)


def test_calls_are_counted(engine):
    """One lists all containers, one changes one; Podman also tells once what its update can do."""
    made = [engine.run("counted-{0}".format(number), command=("sleep", "1000")) for number in range(20)]
    counter = Counter()
    host = HOST._replace(stream=counter)
    found, row = targets(engine, host)
    verbs = [[word for word in argv if word in ("update", "inspect")] for argv in counter.calls]
    assert verbs == ([["inspect"]] if engine.name == "docker" else [["update"], ["inspect"]])
    assert (len(found), row["workloads"]) == (20, 20)
    del counter.calls[:]
    for each in found:
        wanted = {"memory_max": 64 * MIB, "memory_swap_max": MIB, "memory_low": 32 * MIB}
        MANAGERS[engine.name].apply(host, each, wanted, lasting=True)
    assert [argv[-1] for argv in counter.calls] == sorted(made)
    assert all("update" in argv for argv in counter.calls)


def test_no_variable_of_a_container_is_told(engine):
    engine.run("secretive", "--env", "SECRET=hunter2-of-run", command=("sleep", "1000"))
    assert "hunter2" not in repr(targets(engine))


def test_docker_that_does_not_answer(docker, monkeypatch, tmp_path):
    container = docker.run("unanswered", "--memory", "64m")
    found = target(docker, container)
    monkeypatch.setenv("DOCKER_HOST", "unix://{0}/docker.sock".format(tmp_path))
    policy_docker._command.cache_clear()
    unasked, row = targets(docker)
    assert (row["available"], row["workloads"]) == (False, 1)
    assert "`docker inspect` failed: Cannot connect to the Docker daemon" in row["error"]
    assert "Cannot connect" in unasked[0].abilities["memory_max"].refusal
    assert (unasked[0].identity, unasked[0].effective["memory_max"]) == (container, 64 * MIB)
    with pytest.raises(ManagerError, match="Cannot connect to the Docker daemon") as raised:
        policy_docker.apply(HOST, found, {"memory_max": 96 * MIB}, lasting=True)
    assert not isinstance(raised.value, VanishedError)


def test_docker_below_a_parent_of_the_administrator(docker):
    container = docker.run("below", "--cgroup-parent", "/oom-forensics-test")
    found = target(docker, container)
    assert (found.path, found.label) == ("/oom-forensics-test/" + container, "docker below")
    change(docker, container, {"memory_max": 64 * MIB})
    assert numbers(docker, container)[0] == 64 * MIB


def test_a_podman_that_has_no_update(podman, tmp_path):
    """A stand-in for a Podman before 4.3: all verbs are the real one's, and `update` is one that there is not."""
    container = podman.run("old", "--memory", "64m")
    program = HOST.which("podman")
    old = tmp_path / "podman"
    old.write_text('#!/bin/sh\n[ "$1" = update ] && shift && set -- no-such-verb "$@"\nexec {0} "$@"\n'.format(program))
    old.chmod(0o755)
    found = target(podman, container, HOST._replace(which={"podman": os.fspath(old)}.get))
    assert "no `podman update`" in found.abilities["memory_max"].refusal
    assert (found.stored["memory_max"], found.label) == (64 * MIB, "podman old")


def test_a_container_that_a_unit_makes_anew(podman):
    container = podman.run("of-unit", "--label", "PODMAN_SYSTEMD_UNIT=container-of-unit.service")
    assert "container-of-unit.service" in target(podman, container).abilities["memory_max"].how


def test_a_podman_that_remembers_takes_all_limits_again(podman, tmp_path):
    """A stand-in for a Podman from 5.1 on: the real one, whose `update` is said to have the option that came with it."""
    limits = ("--memory", "64m", "--memory-swap", "96m", "--memory-reservation", "32m", "--memory-swappiness", "60")
    container = podman.run("remembered", *limits, *OTHER_OPTIONS)
    before = others(podman, container)
    program, new, said = HOST.which("podman"), tmp_path / "podman", tmp_path / "said"
    script = '#!/bin/sh\n[ "$*" = "update --help" ] && echo "      --restart string"\necho "$*" >> {0}\nexec {1} "$@"\n'
    new.write_text(script.format(said, program))
    new.chmod(0o755)
    host = HOST._replace(which={"podman": os.fspath(new)}.get)
    found = target(podman, container, host)
    assert found.abilities["memory_max"].survives.workload_restart is True
    policy_podman.apply(host, found, {"memory_low": 16 * MIB}, lasting=True)
    assert numbers(podman, container) == (64 * MIB, 96 * MIB, 16 * MIB)
    assert podman.kernel_file(container, "memory.swappiness", "memory.swappiness").strip() == "60"
    assert others(podman, container) == before
    told = said.read_text().splitlines()[-1].split()
    assert told[:2] == ["update", "--memory-reservation={0}".format(16 * MIB)]
    assert {"--memory={0}".format(64 * MIB), "--memory-swap={0}".format(96 * MIB), "--memory-swappiness=60"} < set(told)
