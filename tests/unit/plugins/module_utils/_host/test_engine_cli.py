# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What engines' commands are asked, where they are not asked at all, and what becomes of their answers."""

import collections
import os
import pathlib
import sys

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import engine_cli, engines, run

FIXTURES = pathlib.Path(__file__).resolve().parents[4] / "fixtures" / "engines"
RUNNING = "c84aaecedfa0a130ad74388d0e0f31349db2b40de6a9c256a2956800a60bd2fc"
STOPPED = "6a1c83ff96ad584cf831c473e0ab0473a6c12d0dc79ac22490e623a983d3b1af"
POD = "3f151c12be36df3f7226d6d7d1751cbb159f43e770e91ab10cf63229e527dd2a"
POD_UID = "3f1c9a52-7d0e-4b8a-9c64-5e2f8a17b0d3"
SANDBOX = "3e0b1f6c8d4a4cf0a2ddc9c2a7ad5f2f0a8c5a3f4c0cbf1b5cf7e3c4d5b6a798"

DOCKER = ["/usr/bin/docker", "--host", "unix:///run/docker.sock"]
DOCKER_PS = DOCKER + ["ps", "--all", "--quiet", "--no-trunc"]
DOCKER_INSPECT = DOCKER + [
    "inspect",
    "--type",
    "container",
    "--format",
    "[{{json .Id}},{{json .Name}},{{json .Config.Image}},{{json .State.Running}},{{json .Config.Labels}}]",
]
PODMAN_PS = ["/usr/bin/podman", "ps", "--all", "--no-trunc", "--pod", "--format", "json"]
CRICTL = ["/usr/bin/crictl", "--runtime-endpoint", "unix:///run/containerd/containerd.sock"]

Call = collections.namedtuple("Call", "argv stdout status stderr")
Call.__new__.__defaults__ = (b"", 0, "")


class Transcript:
    """Commands by the script: each must be the next one."""

    def __init__(self, *calls):
        self.calls = list(calls)

    def __call__(self, argv):
        assert self.calls, "one call too many: {0}".format(argv)
        call = self.calls.pop(0)
        assert argv == call.argv
        halves = (call.stdout[:100], call.stdout[100:])
        return run.Running(iter(halves), lambda: run.Ended(call.status, call.stderr))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that makes a host of files and commands, which passes for the running machine."""
    monkeypatch.setattr(run, "live", lambda host: True)
    for name in ("DOCKER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)

    def make(files, *calls):
        for path, text in files.items():
            place = tmp_path / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        programs = {os.path.basename(call.argv[0]) for call in calls}
        which = {name: "/usr/bin/" + name for name in programs}.get
        return run.Host(str(tmp_path), Transcript(*calls), which)

    return make


def output(name):
    return (FIXTURES / name).read_bytes()


def said(name):
    return (FIXTURES / name).read_text()


DOCKERD = {"/run/docker.sock": "", "/proc/77/comm": "dockerd\n"}


def names_of(host):
    names = engines.read(host)
    assert not host.stream.calls, "not asked: {0}".format(host.stream.calls)
    return names


def source(names, engine):
    return next(each for each in names.sources if each["engine"] == engine)


def test_docker(machine):
    inspect = DOCKER_INSPECT + [STOPPED, RUNNING]
    host = machine(
        DOCKERD,
        Call(DOCKER_PS, output("docker-20.10.24/ps.txt")),
        Call(inspect, output("docker-20.10.24/inspect.txt")),
    )
    names = names_of(host)
    assert names.by_id[RUNNING] == {
        "engine": "docker",
        "id": RUNNING,
        "uid": None,
        "name": "shop-web-1",
        "image": "localhost/oom-forensics-test:busybox",
        "labels": {
            "com.docker.compose.project": "shop",
            "com.docker.compose.service": "web",
            "odd": 'a,b=c\nd é ☃ "q"',
        },
        "pod_uid": None,
        "pod_name": None,
        "namespace": None,
        "container_name": None,
        "compose_project": "shop",
        "compose_service": "web",
        "name_source": "engine",
        "running": True,
    }
    assert (names.by_id[STOPPED]["name"], names.by_id[STOPPED]["running"]) == ("Odd_n.a-me", False)
    assert source(names, "docker") == {
        "engine": "docker",
        "available": True,
        "workloads": 2,
        "error": None,
        "advice": None,
    }


def test_docker_without_containers_is_asked_once(machine):
    names = names_of(machine(DOCKERD, Call(DOCKER_PS, b"")))
    assert (source(names, "docker")["available"], names.by_id) == (True, {})


def test_a_container_that_is_removed_between_the_calls(machine):
    gone = "f" * 64
    listed = output("docker-20.10.24/ps.txt") + gone.encode() + b"\n"
    inspect = DOCKER_INSPECT + [STOPPED, RUNNING, gone]
    complaint = said("docker-20.10.24/inspect-removed.err")
    host = machine(
        DOCKERD,
        Call(DOCKER_PS, listed),
        Call(inspect, output("docker-20.10.24/inspect.txt"), 1, complaint),
    )
    names = names_of(host)
    assert sorted(names.by_id) == sorted([RUNNING, STOPPED])
    assert source(names, "docker")["error"] is None


@pytest.mark.parametrize(
    "stderr, error, advice",
    [
        ("denied.err", "permission denied while trying to connect", "become: true"),
        ("not-running.err", "Cannot connect to the Docker daemon", "daemon's log"),
    ],
)
def test_docker_that_refuses_is_read_from_its_files(machine, stderr, error, advice):
    config = '{"ID": "%s", "Name": "/from-files", "Config": {"Env": ["A=hunter2"]}}' % RUNNING
    files = dict(DOCKERD, **{"/var/lib/docker/containers/{0}/config.v2.json".format(RUNNING): config})
    names = names_of(machine(files, Call(DOCKER_PS, b"", 1, said("docker-20.10.24/" + stderr))))
    about = source(names, "docker")
    assert (about["available"], about["workloads"]) == (True, 1)
    assert about["error"].startswith("`docker ps` failed: ")
    assert error in about["error"]
    assert advice in about["advice"]
    assert (names.by_id[RUNNING]["name"], names.by_id[RUNNING]["name_source"]) == ("from-files", "state")


def test_what_could_start_a_daemon_is_not_asked(machine):
    """systemd listens at the socket of a Docker that is stopped, and would start it."""
    host = machine({"/run/docker.sock": "", "/proc/1/comm": "systemd\n"}, Call(DOCKER_PS))
    assert engines.read(host).by_id == {}
    assert len(host.stream.calls) == 1


def test_podman_behind_dockers_socket_is_not_asked_for_docker(machine, tmp_path):
    host = machine({"/run/podman/podman.sock": "", "/proc/77/comm": "dockerd\n"}, Call(DOCKER_PS))
    os.symlink(str(tmp_path / "run/podman/podman.sock"), str(tmp_path / "run/docker.sock"))
    assert engines.read(host).by_id == {}
    assert len(host.stream.calls) == 1


def test_another_docker_host_is_asked_only_if_it_is_this_machine(machine, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    host = machine(DOCKERD, Call(DOCKER_PS))
    engines.read(host)
    assert len(host.stream.calls) == 1
    monkeypatch.setenv("DOCKER_HOST", "unix:///srv/docker.sock")
    argv = [word.replace("/run/docker", "/srv/docker") for word in DOCKER_PS]
    names_of(machine({}, Call(argv, b"")))


def test_docker_of_a_user(machine, monkeypatch, tmp_path):
    """The socket is whose the daemon is; what stands in the usual place is root's."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/user/1000/docker.sock")
    argv = [word.replace("/run/docker", "/run/user/1000/docker") for word in DOCKER_PS]
    inspect = [word.replace("/run/docker", "/run/user/1000/docker") for word in DOCKER_INSPECT] + [RUNNING]
    host = machine(
        {"/run/user/1000/docker.sock": ""},
        Call(argv, RUNNING.encode()),
        Call(inspect, output("docker-20.10.24/inspect.txt")),
    )
    if os.getuid() == 0:
        os.chown(str(tmp_path / "run/user/1000/docker.sock"), 1000, 1000)
    assert {row["uid"] for row in names_of(host).by_id.values()} == {os.getuid() or 1000}


def test_podman(machine, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    names = names_of(machine({"/run/libpod/alive": ""}, Call(PODMAN_PS, output("podman-4.3.1/ps.json"))))
    rows = {row["name"]: row for row in names.by_id.values()}
    assert sorted(rows) == [
        "3f151c12be36-infra",
        "apppod",
        "pdead",
        "pnolimit",
        "pod-a",
        "pod-b",
        "prunc",
        "psmall",
        "pvictim",
    ]
    assert (rows["pdead"]["running"], rows["pod-a"]["running"]) == (False, True)
    assert (rows["psmall"]["compose_project"], rows["psmall"]["compose_service"]) == ("shop", "cache")
    assert (rows["pod-a"]["pod_uid"], rows["pod-a"]["pod_name"]) == (POD, "apppod")
    assert rows["pod-a"]["image"] == "localhost/lab/tiny:1.0"
    assert (rows["apppod"]["id"], rows["apppod"]["engine"], rows["apppod"]["image"]) == (POD, "podman", None)
    assert rows["pnolimit"]["labels"] == {}
    assert (source(names, "podman")["workloads"], rows["pnolimit"]["pod_uid"]) == (8, None)


def test_podman_of_a_user(machine, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    host = machine({"/run/user/1000/libpod/tmp/alive": ""}, Call(PODMAN_PS, output("podman-4.3.1/ps.json")))
    by_id = names_of(host).by_id
    assert ({row["uid"] for row in by_id.values()}, "1000:" + POD in by_id) == ({1000}, True)


def test_podman_is_not_asked_before_it_ran(machine, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    host = machine({"/run/libpod/other": ""}, Call(PODMAN_PS))
    engines.read(host)
    assert len(host.stream.calls) == 1


def test_podman_with_directories_of_the_administrators_own(machine, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    files = {"/etc/containers/containers.conf": '[engine]\n tmp_dir = "/srv/libpod"\n', "/srv/libpod/alive": ""}
    names_of(machine(files, Call(PODMAN_PS, b"[]")))


def crictl(machine):
    return machine(
        {"/run/containerd/containerd.sock": ""},
        Call(CRICTL + ["pods", "--output", "json"], output("crictl/pods.json")),
        Call(CRICTL + ["ps", "--all", "--output", "json"], output("crictl/ps.json")),
    )


def test_containerd_of_kubernetes(machine):
    names = names_of(crictl(machine))
    web = names.by_id["09e49ca85bfe98dc3f4ecd6e1e80e3734e2758daf792b977285b9f90b016b587"]
    assert (web["engine"], web["name"], web["container_name"]) == ("containerd", "web", "web")
    assert (web["pod_uid"], web["pod_name"], web["namespace"]) == (POD_UID, "web-7c9d", "shop")
    assert (web["image"], web["running"]) == ("registry.example/shop/web:1.4", True)
    init = names.by_id["1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"]
    assert (init["pod_name"], init["image"], init["running"]) == ("web-7c9d", "registry.example/shop/init:1", False)
    sandbox = names.by_id[SANDBOX]
    assert (sandbox["name"], sandbox["container_name"], sandbox["running"]) == ("web-7c9d", "POD", True)
    pod = names.by_id[POD_UID]
    assert (pod["name"], pod["namespace"], pod["container_name"]) == ("web-7c9d", "shop", None)
    assert pod["labels"]["app"] == "web"
    assert "hunter2" not in str(names)


def test_cri_o(machine):
    argv = ["/usr/bin/crictl", "--runtime-endpoint", "unix:///run/crio/crio.sock"]
    host = machine(
        {"/run/crio/crio.sock": ""},
        Call(argv + ["pods", "--output", "json"], output("crictl/pods.json")),
        Call(argv + ["ps", "--all", "--output", "json"], output("crictl/ps.json")),
    )
    assert {row["engine"] for row in names_of(host).by_id.values()} == {"cri-o"}


@pytest.mark.parametrize(
    "answer", [b"", b"null", b"[1, null, {}]", b"{", b"\xff\xfe", b'{"containers": 3}', b'[{"Id": 7}]', b"[" * 5000]
)
def test_an_answer_that_is_none_gives_no_names(machine, monkeypatch, answer):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    files = dict(DOCKERD, **{"/run/libpod/alive": "", "/run/containerd/containerd.sock": ""})
    host = machine(
        files,
        Call(DOCKER_PS, b"a b\n"),
        Call(DOCKER_INSPECT + ["a", "b"], answer),
        Call(PODMAN_PS, answer),
        Call(CRICTL + ["pods", "--output", "json"], answer),
        Call(CRICTL + ["ps", "--all", "--output", "json"], answer),
    )
    assert names_of(host).by_id == {}


def test_an_answer_without_end_is_cut(machine, monkeypatch):
    monkeypatch.setattr(engine_cli, "_LARGEST", 150)
    names = names_of(machine(DOCKERD, Call(DOCKER_PS, b"a" * 151)))
    assert source(names, "docker")["error"] == "`docker ps` printed more than 150 bytes."


def test_an_engine_that_hangs_is_left(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(engine_cli, "SECONDS", 0.2)
    docker = tmp_path / "docker"
    docker.write_text("#!{0}\nimport time\ntime.sleep(600)\n".format(sys.executable))
    docker.chmod(0o755)
    host = machine(DOCKERD)._replace(stream=run.popen, which={"docker": str(docker)}.get)
    about = source(engines.read(host), "docker")
    assert about["error"] == "`docker ps` gave no answer within 0.2 seconds."
    assert about["advice"]


def test_on_a_copied_tree_no_command_runs(machine, monkeypatch):
    host = machine(dict(DOCKERD, **{"/run/libpod/alive": ""}), Call(DOCKER_PS), Call(PODMAN_PS))
    monkeypatch.setattr(run, "live", lambda host: False)
    engines.read(host)
    assert len(host.stream.calls) == 2
