# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of real containers, told by real engines, by their files, and found for the cgroups that the kernel has."""

import json
import os
import signal
import subprocess

import engines as real
import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import engine_cli, engine_state, engines, run
from ansible_collections.oom.forensics.plugins.module_utils._oom import workload

HOST = run.Host()
ODD_LABEL = 'a,b=c\nd é ☃ "q" {{ 1 }}'
LABELS = {
    "com.docker.compose.project": "shop",
    "com.docker.compose.service": "web",
    "odd": ODD_LABEL,
}
OPTIONS = [word for key, value in LABELS.items() for word in ("--label", "{0}={1}".format(key, value))]


@pytest.fixture(params=["docker", "podman"])
def engine(request):
    return request.getfixturevalue(request.param)


def source(names, engine):
    return next(each for each in names.sources if each["engine"] == engine.name)


def test_names_of_running_stopped_created_and_removed_containers(engine):
    running = engine.run("shop-web-1", *OPTIONS, "--env", "SECRET=hunter2-of-run", "--memory", "64m")
    stopped = engine.run("Odd_n.a-me", command=("sleep", "1000"))
    engine.stop(stopped)
    created = engine.create("0created")
    removed = engine.run("removed", command=("sleep", "1000"))
    engine.remove(removed)

    names = engines.read(HOST)

    found = {identifier: names.by_id.get(identifier) for identifier in (running, stopped, created, removed)}
    assert found[removed] is None
    assert [found[each]["name"] for each in (running, stopped, created)] == ["shop-web-1", "Odd_n.a-me", "0created"]
    assert [found[each]["running"] for each in (running, stopped, created)] == [True, False, False]
    assert {found[each]["name_source"] for each in (running, stopped, created)} == {"engine"}
    assert {found[each]["engine"] for each in (running, stopped, created)} == {engine.name}
    assert {found[each]["image"] for each in (running, stopped, created)} == {real.IMAGE}
    assert found[running]["labels"] == LABELS
    assert (found[running]["compose_project"], found[running]["compose_service"]) == ("shop", "web")
    assert source(names, engine) == {
        "engine": engine.name,
        "available": True,
        "workloads": 3,
        "error": None,
        "advice": None,
    }


def test_no_variable_of_a_container_or_of_its_image_is_told(engine):
    identifier = engine.run("secretive", "--env", "SECRET=hunter2-of-run", command=("sleep", "hunter2-of-command"))
    assert "hunter2" in engine.call("inspect", identifier)
    told = json.dumps(engines.read(HOST))
    assert "secretive" in told
    assert "hunter2" not in told


def test_a_container_is_found_by_the_cgroup_that_the_kernel_logs(engine):
    identifier = engine.run("by-cgroup", "--memory", "64m")
    path = engine.cgroup(identifier)
    named = engines.fill(workload.identify(path), engines.read(HOST).by_id)
    assert (named["kind"], named["engine"], named["id"]) == ("container", engine.name, identifier)
    assert (named["name"], named["image"], named["name_source"]) == ("by-cgroup", real.IMAGE, "engine")
    assert workload.label(named) == "{0} by-cgroup".format(engine.name)
    by_prefix = engines.fill(dict(workload.identify(path), id=identifier[:12]), engines.read(HOST).by_id)
    assert by_prefix["name"] == "by-cgroup"


def test_the_state_directory_names_what_the_engine_does(engine, monkeypatch):
    running = engine.run("in-state", *OPTIONS)
    stopped = engine.run("stopped-in-state", command=("sleep", "1000"))
    engine.stop(stopped)
    asked = engines.read(HOST).by_id
    if engine.name == "docker":
        root = engine.call("info", "--format", "{{.DockerRootDir}}")
        monkeypatch.setattr(engine_state, "_DOCKER_ROOTS", (root,))
    by_state = engines.read(HOST._replace(which=lambda name: None)).by_id
    for identifier in (running, stopped):
        assert by_state[identifier]["name_source"] == "state"
        assert by_state[identifier]["name"] == asked[identifier]["name"]
        assert by_state[identifier]["image"] == real.IMAGE
    if engine.name == "docker":
        assert by_state[running] == dict(asked[running], name_source="state")
    assert "hunter2" not in json.dumps(by_state)


def test_asking_changes_nothing(engine):
    identifier = engine.run("untouched")
    before = engine.call("inspect", identifier)
    engines.read(HOST)
    assert engine.call("inspect", identifier) == before


def test_podman_pods(podman):
    pod = podman.call("pod", "create", "--name", "cash-desk", "--infra=false")
    try:
        identifier = podman.run("in-pod", "--pod", pod)
        by_id = engines.read(HOST).by_id
        assert (by_id[identifier]["pod_uid"], by_id[identifier]["pod_name"]) == (pod, "cash-desk")
        named = engines.fill(workload.identify("/machine.slice/machine-libpod_pod_{0}.slice".format(pod)), by_id)
        assert (named["kind"], named["pod_name"], named["name_source"]) == ("pod", "cash-desk", "engine")
    finally:
        podman.call("pod", "rm", "--force", "--time", "0", pod)


def test_podman_is_not_asked_before_it_ran(podman, monkeypatch, tmp_path):
    """Its first command would make a store, and after a reboot mark every container as not running."""
    podman.run("not-asked")
    empty = tmp_path / "containers.conf"
    empty.write_text('[engine]\ntmp_dir = "{0}/tmp"\nstatic_dir = "{0}/static"\n'.format(tmp_path))
    monkeypatch.setenv("CONTAINERS_CONF", str(empty))
    # Where it would have left its mark by default; somebody may really have run it on this machine.
    monkeypatch.setattr(engine_cli, "_podman_tmp", lambda: str(tmp_path / "tmp"))
    asked = []
    host = HOST._replace(stream=asked.append)
    before = sorted(tmp_path.rglob("*"))
    names = engines.read(host._replace(which=lambda name: run.which(name) if name == "podman" else None))
    assert asked == []
    assert sorted(tmp_path.rglob("*")) == before
    assert "not-asked" in {each["name"] for each in names.by_id.values()}


def test_docker_that_hangs_does_not_hang_us(docker, monkeypatch):
    identifier = docker.run("patient")
    daemon = int(subprocess.run(["pgrep", "-x", "dockerd"], capture_output=True, check=True).stdout.split()[0])
    monkeypatch.setattr(engines.engine_cli, "SECONDS", 1)
    os.kill(daemon, signal.SIGSTOP)
    try:
        names = engines.read(HOST)
    finally:
        os.kill(daemon, signal.SIGCONT)
    about = source(names, docker)
    assert about["error"] == "`docker ps` gave no answer within 1 seconds."
    assert "daemon" in about["advice"]
    assert identifier not in names.by_id


def test_a_kill_of_a_child_leaves_the_container_running(engine):
    identifier = engine.run("hungry", "--memory", "64m", "--memory-swap", "64m")
    process = engine.first_process(identifier)
    assert engine.eat_in_child(identifier) == 1
    assert engine.first_process(identifier) == process
    assert engines.read(HOST).by_id[identifier]["running"] is True
