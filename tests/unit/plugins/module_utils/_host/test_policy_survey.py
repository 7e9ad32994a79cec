# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which cgroups are workloads that a policy may be for, and who keeps the settings of each."""

import os
import pwd

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import policy_podman, policy_survey, run
from ansible_collections.oom.forensics.plugins.module_utils._host.coverage import Unreadable
from ansible_collections.oom.forensics.plugins.module_utils._policy.model import SETTINGS

ID, OTHER, THIRD = "4f" * 32, "5a" * 32, "6b" * 32
POD = "0123abcd-0123-0123-0123-0123456789ab"
KUBELET = "kubelet sets its limits from the pod's spec; change the manifest."
SHOWN = """Id={0}
Transient=no
ControlGroup=/system.slice/{0}
DropInPaths=
MainPID=0
MemoryMax=infinity
OOMPolicy=stop
OOMScoreAdjust=0
"""


class Tree:
    """A copied tree of cgroups v2, with commands that answer from a table."""

    def __init__(self, root):
        self.root, self.commands, self.asked = root, {}, []
        self.put("/proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")
        self.put("/sys/fs/cgroup/cgroup.controllers", "memory\n")

    def put(self, path, text):
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def cgroup(self, path, **files):
        for name, text in dict({"memory.current": "1048576", "memory.max": "max", "memory.low": "0"}, **files).items():
            self.put("/sys/fs/cgroup" + path + "/" + name, text + "\n")

    def stream(self, argv):
        self.asked.append(argv)
        status, said = next(
            (answer for words, answer in self.commands.items() if words in " ".join(argv)), (127, "not here")
        )
        chunks = iter(()) if status else iter([said.encode("utf-8")])
        return run.Running(chunks, lambda: run.Ended(status, said if status else ""))

    def survey(self, prefixes=()):
        programs = {words.split()[0] for words in self.commands}
        host = run.Host(str(self.root), self.stream, lambda name: name if name in programs else None)
        found = policy_survey.survey(host, prefixes, True)
        return {target.path or target.identity: target for target in found.targets}, found.managers


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def refusals(target):
    assert set(target.abilities) == set(SETTINGS)
    return {ability.refusal for ability in target.abilities.values()}


def test_what_is_inside_of_a_workload_or_beside_it_is_no_target(tree):
    tree.cgroup("/system.slice")
    tree.cgroup("/system.slice/docker-{0}.scope".format(ID))
    tree.cgroup("/system.slice/docker-{0}.scope/init.scope".format(ID))
    tree.cgroup("/system.slice/docker-{0}.scope/system.slice/cron.service".format(ID))
    tree.cgroup("/system.slice/docker-{0}.scope/docker/{1}".format(ID, OTHER))
    tree.cgroup("/machine.slice/libpod-conmon-{0}.scope".format(OTHER))
    tree.cgroup("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/emulator")
    tree.cgroup("/lxc.payload.web/system.slice/x.service")
    tree.cgroup("/lxc.monitor.web")
    found, _managers = tree.survey()
    assert sorted(found) == [
        "/lxc.payload.web",
        "/machine.slice",
        "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope",
        "/system.slice",
        "/system.slice/docker-{0}.scope".format(ID),
    ]


@pytest.mark.parametrize(
    "path,sentence",
    [
        ("/kubepods.slice/kubepods-pod{0}.slice/cri-containerd-{1}.scope".format(POD.replace("-", "_"), ID), KUBELET),
        ("/kubepods/besteffort/pod{0}/{1}".format(POD, ID), KUBELET),
        ("/kubepods.slice/kubepods-burstable.slice", KUBELET),
        ("/kubepods.slice/kubepods-pod{0}.slice".format(POD.replace("-", "_")), KUBELET),
        ("/system.slice/crio-{0}.scope".format(ID), KUBELET),
        ("/default/{0}".format(ID), "containerd keeps its settings, and is not asked here"),
        ("/lxc.payload.web", "LXC keeps its settings"),
        ("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope", "libvirt keeps its settings"),
        ("/slurm/uid_0/job_7", "Slurm sets its limits"),
        ("/machine.slice/machine-libpod_pod_{0}.slice".format(ID), "Podman gives it no limit"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service", "It belongs to user 1000"),
        ("/somebody/made/this", "Nobody is known who keeps its settings"),
        ("/system.slice/cron.service", "Nobody is known who keeps its settings"),  # no systemd here
    ],
)
def test_who_keeps_the_settings_of_what_nobody_here_is_asked_for(tree, path, sentence):
    tree.cgroup(path)
    target = tree.survey()[0][path]
    (said,) = refusals(target)
    assert said.startswith(sentence)
    assert (target.manager, target.identity, target.effective["memory_max"]) == ("none", path, None)
    assert target.usage.current == 1048576


def test_docker_is_down(tree):
    path = "/system.slice/docker-{0}.scope".format(ID)
    tree.cgroup(path)
    found, managers = tree.survey()
    (said,) = refusals(found[path])
    assert said == " ".join((managers[0]["error"], managers[0]["advice"]))
    assert found[path].manager == "docker"
    rows = {row["manager"]: row for row in managers}
    assert [row["manager"] for row in managers] == ["docker", "podman", "systemd"]
    assert rows["docker"]["available"] is False
    assert "No Docker daemon" in rows["docker"]["error"]


def with_systemd(tree, *units):
    (tree.root / "run/systemd/system").mkdir(parents=True)
    for unit in units:
        tree.cgroup("/system.slice/" + unit)
    tree.commands["systemctl show"] = (0, "\n".join(SHOWN.format(unit) for unit in units))


def test_units_are_asked_for_once(tree):
    with_systemd(tree, "cron.service", "web.service")
    tree.cgroup("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service")
    found, managers = tree.survey(["docker-.scope"])
    kept = {key: target.manager for key, target in found.items() if target.manager != "none"}
    assert kept == {
        "/system.slice/cron.service": "systemd",
        "/system.slice/web.service": "systemd",
        "docker-.scope": "systemd",
    }
    assert found["docker-.scope"].path is None
    assert sum(argv[1] == "show" for argv in tree.asked) == 1
    assert "x.service" not in " ".join(" ".join(argv) for argv in tree.asked)
    assert managers[2] == {"manager": "systemd", "available": True, "workloads": 3, "error": None, "advice": None}


def container_in_service(tree, monkeypatch, infrastructure=False):
    path = "/system.slice/web.service/libpod-payload-{0}".format(ID)
    tree.cgroup(path)
    (bare,) = [target for target in tree.survey()[0].values() if target.path == "/system.slice/web.service"]
    inside = bare._replace(
        manager="systemd",
        identity="web.service",
        label="podman web-1",
        path=path,
        workload=dict(bare.workload, kind="container", engine="podman", name="web-1"),
        abilities={},
        infrastructure=infrastructure,
    )
    row = {"manager": "podman", "available": True, "workloads": 0, "error": None, "advice": None}
    monkeypatch.setattr(policy_podman, "targets", lambda host, cgroups: ([inside], row))
    return path


def test_a_container_that_is_a_service_is_its_unit_under_its_own_name(tree, monkeypatch):
    with_systemd(tree, "web.service")
    inner = container_in_service(tree, monkeypatch)
    found, _managers = tree.survey()
    target = found["/system.slice/web.service"]
    assert (target.manager, target.identity, target.label) == ("systemd", "web.service", "podman web-1")
    assert (target.workload["name"], target.workload["engine"]) == ("web-1", "podman")
    assert refusals(target) != {None} or target.abilities["memory_max"].refusal is None
    assert inner not in found


def test_a_pods_infrastructure_does_not_give_its_service_a_name(tree, monkeypatch):
    with_systemd(tree, "web.service")
    container_in_service(tree, monkeypatch, infrastructure=True)
    assert tree.survey()[0]["/system.slice/web.service"].label == "web.service"


def test_a_container_in_a_service_that_no_systemd_keeps(tree, monkeypatch):
    tree.cgroup("/system.slice/web.service")
    inner = container_in_service(tree, monkeypatch)
    found, _managers = tree.survey()
    assert (found[inner].manager, len(refusals(found[inner]))) == ("none", 1)


def test_each_cgroup_is_one_target_at_most(tree):
    with_systemd(tree, "cron.service")
    tree.cgroup("/system.slice/docker-{0}.scope".format(ID))
    tree.cgroup("/docker/" + OTHER)
    tree.cgroup("/machine.slice/libpod-{0}.scope/container".format(THIRD))
    host = run.Host(str(tree.root), tree.stream, lambda name: None)
    paths = [target.path for target in policy_survey.survey(host, (), True).targets]
    assert len(paths) == len(set(paths))
    assert {"/docker/" + OTHER, "/system.slice/cron.service"} < set(paths)


def test_a_host_without_cgroups(tmp_path):
    with pytest.raises(Unreadable):
        policy_survey.survey(run.Host(str(tmp_path)), (), True)


def test_uids_of_users_that_are_known():
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert policy_survey.uids([me, "nobody-has-this-name", ""]) == {me: os.geteuid()}
