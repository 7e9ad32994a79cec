# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One row per way a runtime names its cgroup: path, the keys that are not null, the label."""

import json
import time

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._oom import workload

CID = "3193584578ea" + "ab12" * 13
CID2 = "8df34f335b68" + "cd34" * 13
UID = "d11ab7b0-d6db-4a24-a7de-4a2faf1e6980"
UID_ = UID.replace("-", "_")
STATIC = "0f2b8a7c6d5e4f30918273645546372a"
POD = {"kind": "pod", "engine": "kubernetes"}


def container(engine, **more):
    keys = dict({"kind": "container", "engine": engine, "id": CID}, **more)
    return {key: value for key, value in keys.items() if value is not None}


DOCKER_SCOPE = "docker-" + CID + ".scope"
KUBE = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + UID_ + ".slice"
KUBE_SLICE = "kubepods-burstable-pod" + UID_ + ".slice"
ALLOC = "9b4d2c1e-7a6f-4b3c-8d2e-1f0a9b8c7d6e"
USER = "/user.slice/user-1000.slice/user@1000.service"

ROWS = [
    ("nothing", None, {}, "unknown"),
    ("empty", "", {}, "unknown"),
    ("root", "/", {"kind": "root"}, "/"),
    ("plain", "/pmlab/odd name (x)", {"kind": "cgroup", "name": "/pmlab/odd name (x)"}, "/pmlab/odd name (x)"),
    # Docker
    ("docker cgroupfs", "/docker/" + CID, container("docker"), "docker 3193584578ea"),
    ("docker 12 digits", "/docker/3193584578ea", container("docker", id="3193584578ea"), "docker 3193584578ea"),
    ("docker below a prefix", "/pmlab/docker/" + CID, container("docker"), "docker 3193584578ea"),
    ("docker leaf", "/docker/" + CID + "/init", container("docker"), "docker 3193584578ea"),
    ("docker --cgroup-parent", "/p/" + CID, container(None), "container 3193584578ea"),
    (
        "docker systemd",
        "/system.slice/" + DOCKER_SCOPE,
        container("docker", unit=DOCKER_SCOPE, slice="system.slice"),
        "docker 3193584578ea",
    ),
    (
        "docker own slice",
        "/oomlab.slice/" + DOCKER_SCOPE,
        container("docker", unit=DOCKER_SCOPE, slice="oomlab.slice"),
        "docker 3193584578ea",
    ),
    (
        "docker rootless",
        USER + "/user.slice/" + DOCKER_SCOPE,
        container("docker", unit=DOCKER_SCOPE, slice="user.slice", uid=1000),
        "docker 3193584578ea",
    ),
    ("not a container id", "/docker/buildkit", {"kind": "cgroup", "name": "/docker/buildkit"}, "/docker/buildkit"),
    (
        "a scope that only looks like one",
        "/system.slice/docker-cleanup.scope",
        {"kind": "scope", "unit": "docker-cleanup.scope", "slice": "system.slice"},
        "docker-cleanup.scope",
    ),
    # Podman
    (
        "podman systemd",
        "/machine.slice/libpod-" + CID + ".scope",
        container("podman", unit="libpod-" + CID + ".scope", slice="machine.slice"),
        "podman 3193584578ea",
    ),
    (
        "podman crun leaf",
        "/machine.slice/libpod-" + CID + ".scope/container",
        container("podman", unit="libpod-" + CID + ".scope", slice="machine.slice"),
        "podman 3193584578ea",
    ),
    (
        "podman conmon",
        "/machine.slice/libpod-conmon-" + CID + ".scope",
        {
            "kind": "scope",
            "engine": "podman",
            "id": CID,
            "unit": "libpod-conmon-" + CID + ".scope",
            "slice": "machine.slice",
        },
        "libpod-conmon-3193584578ea.scope",
    ),
    (
        "podman in a pod",
        "/machine.slice/machine-libpod_pod_" + CID2 + ".slice/libpod-" + CID + ".scope",
        container(
            "podman",
            pod_uid=CID2,
            unit="libpod-" + CID + ".scope",
            slice="machine-libpod_pod_" + CID2 + ".slice",
        ),
        "podman 3193584578ea",
    ),
    (
        "podman pod",
        "/machine.slice/machine-libpod_pod_" + CID2 + ".slice",
        {"kind": "pod", "engine": "podman", "pod_uid": CID2, "slice": "machine-libpod_pod_" + CID2 + ".slice"},
        "pod podman 8df34f33",
    ),
    (
        "podman rootless",
        USER + "/user.slice/libpod-" + CID + ".scope/container",
        container("podman", unit="libpod-" + CID + ".scope", slice="user.slice", uid=1000),
        "podman 3193584578ea",
    ),
    (
        "podman rootless in a pod",
        USER + "/user.slice/user-libpod_pod_" + CID2 + ".slice/libpod-" + CID + ".scope",
        container(
            "podman",
            pod_uid=CID2,
            unit="libpod-" + CID + ".scope",
            slice="user-libpod_pod_" + CID2 + ".slice",
            uid=1000,
        ),
        "podman 3193584578ea",
    ),
    ("podman cgroupfs", "/libpod_parent/libpod-" + CID, container("podman"), "podman 3193584578ea"),
    (
        "podman --cgroups=split",
        "/system.slice/web.service/libpod-payload-" + CID,
        container("podman", unit="web.service", slice="system.slice"),
        "podman 3193584578ea",
    ),
    # Kubernetes
    (
        "kubelet cgroupfs",
        "/kubepods/burstable/pod" + UID + "/" + CID,
        container(None, pod_uid=UID, qos="burstable"),
        "pod burstable d11ab7b0/3193584578ea",
    ),
    (
        "kubelet cgroupfs guaranteed",
        "/kubepods/pod" + UID + "/" + CID,
        container(None, pod_uid=UID, qos="guaranteed"),
        "pod guaranteed d11ab7b0/3193584578ea",
    ),
    (
        "kubelet cgroupfs cri-o",
        "/kubepods/besteffort/pod" + UID + "/crio-" + CID,
        container("cri-o", pod_uid=UID, qos="besteffort"),
        "pod besteffort d11ab7b0/3193584578ea",
    ),
    (
        "kubelet cgroupfs static pod",
        "/kubepods/burstable/pod" + STATIC + "/" + CID,
        container(None, pod_uid=STATIC, qos="burstable"),
        "pod burstable 0f2b8a7c/3193584578ea",
    ),
    (
        "kubelet cgroupfs pod",
        "/kubepods/besteffort/pod" + UID,
        dict(POD, pod_uid=UID, qos="besteffort"),
        "pod besteffort d11ab7b0",
    ),
    (
        "kubelet QoS level, cgroupfs",
        "/kubepods/burstable",
        {"kind": "cgroup", "engine": "kubernetes", "name": "/kubepods/burstable", "qos": "burstable"},
        "/kubepods/burstable",
    ),
    (
        "kubelet systemd containerd",
        KUBE + "/cri-containerd-" + CID + ".scope",
        container(
            "containerd",
            pod_uid=UID,
            qos="burstable",
            unit="cri-containerd-" + CID + ".scope",
            slice=KUBE_SLICE,
        ),
        "pod burstable d11ab7b0/3193584578ea",
    ),
    (
        "kubelet systemd cri-o with crun",
        KUBE + "/crio-" + CID + ".scope/container",
        container("cri-o", pod_uid=UID, qos="burstable", unit="crio-" + CID + ".scope", slice=KUBE_SLICE),
        "pod burstable d11ab7b0/3193584578ea",
    ),
    (
        "kubelet systemd cri-o conmon",
        KUBE + "/crio-conmon-" + CID + ".scope",
        {
            "kind": "scope",
            "engine": "cri-o",
            "id": CID,
            "pod_uid": UID,
            "qos": "burstable",
            "unit": "crio-conmon-" + CID + ".scope",
            "slice": KUBE_SLICE,
        },
        "crio-conmon-3193584578ea.scope",
    ),
    (
        "kubelet systemd docker",
        KUBE + "/" + DOCKER_SCOPE,
        container("docker", pod_uid=UID, qos="burstable", unit=DOCKER_SCOPE, slice=KUBE_SLICE),
        "pod burstable d11ab7b0/3193584578ea",
    ),
    (
        "kubelet systemd guaranteed pod",
        "/kubepods.slice/kubepods-pod" + UID_ + ".slice",
        dict(POD, pod_uid=UID, qos="guaranteed", slice="kubepods-pod" + UID_ + ".slice"),
        "pod guaranteed d11ab7b0",
    ),
    (
        "kubelet systemd static pod",
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + STATIC + ".slice",
        dict(POD, pod_uid=STATIC, qos="burstable", slice="kubepods-burstable-pod" + STATIC + ".slice"),
        "pod burstable 0f2b8a7c",
    ),
    (
        "kubelet QoS level, systemd",
        "/kubepods.slice/kubepods-burstable.slice",
        {"kind": "slice", "engine": "kubernetes", "qos": "burstable", "slice": "kubepods-burstable.slice"},
        "kubepods-burstable.slice",
    ),
    ("all pods", "/kubepods.slice", {"kind": "slice", "slice": "kubepods.slice"}, "kubepods.slice"),
    (
        "drivers differ",
        "/system.slice/containerd.service/" + KUBE_SLICE + ":cri-containerd:" + CID,
        container("containerd", pod_uid=UID, qos="burstable", unit="containerd.service", slice="system.slice"),
        "pod burstable d11ab7b0/3193584578ea",
    ),
    (
        "drivers differ, guaranteed",
        "/kubepods-pod" + UID_ + ".slice:crio:" + CID,
        container("cri-o", pod_uid=UID, qos="guaranteed"),
        "pod guaranteed d11ab7b0/3193584578ea",
    ),
    ("drivers differ, docker", "/system.slice:docker:" + CID, container("docker"), "docker 3193584578ea"),
    (
        "kind --cgroup-root",
        "/docker/"
        + CID2
        + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod"
        + UID_
        + ".slice/cri-containerd-"
        + CID
        + ".scope",
        container(
            "containerd",
            pod_uid=UID,
            qos="besteffort",
            unit="cri-containerd-" + CID + ".scope",
            slice="kubelet-kubepods-besteffort-pod" + UID_ + ".slice",
        ),
        "pod besteffort d11ab7b0/3193584578ea",
    ),
    (
        "kind cgroupfs, node in a systemd scope",
        "/system.slice/docker-" + CID2 + ".scope/kubelet/kubepods/burstable/pod" + UID + "/" + CID,
        container(None, pod_uid=UID, qos="burstable"),
        "pod burstable d11ab7b0/3193584578ea",
    ),
    (
        "k3s prefix",
        "/k3s/kubepods/pod" + UID + "/" + CID,
        container(None, pod_uid=UID, qos="guaranteed"),
        "pod guaranteed d11ab7b0/3193584578ea",
    ),
    (
        "docker inside a pod",
        "/kubepods/burstable/pod" + UID + "/" + CID2 + "/docker/" + CID,
        container("docker", pod_uid=UID, qos="burstable"),
        "pod burstable d11ab7b0/3193584578ea",
    ),
    # LXC, LXD, Incus
    ("lxc 4", "/lxc.payload.test", {"kind": "container", "engine": "lxc", "name": "test"}, "lxc test"),
    (
        "lxd project",
        "/lxc.payload.shop_web1/leaf",
        {"kind": "container", "engine": "lxc", "name": "shop_web1"},
        "lxc shop_web1",
    ),
    ("lxc monitor", "/lxc.monitor.web1", {"kind": "cgroup", "engine": "lxc", "name": "web1"}, "web1"),
    ("lxc old", "/lxc/39004", {"kind": "container", "engine": "lxc", "name": "39004"}, "lxc 39004"),
    ("lxc pattern", "/tenants/web1/payload", {"kind": "container", "engine": "lxc", "name": "web1"}, "lxc web1"),
    (
        "docker in lxc",
        "/lxc/39004/ns/system.slice/" + DOCKER_SCOPE,
        container("docker", unit=DOCKER_SCOPE, slice="system.slice"),
        "docker 3193584578ea",
    ),
    (
        "unit in lxc",
        "/lxc.payload.web1/system.slice/nginx.service",
        {"kind": "unit", "engine": "lxc", "name": "web1", "unit": "nginx.service", "slice": "system.slice"},
        "nginx.service in lxc web1",
    ),
    (
        "kubernetes in lxc",
        "/lxc.payload.ny2g2r5hh3-lxc/kubepods.slice/kubepods-burstable.slice/"
        + KUBE_SLICE
        + "/cri-containerd-"
        + CID
        + ".scope",
        container(
            "containerd",
            pod_uid=UID,
            qos="burstable",
            unit="cri-containerd-" + CID + ".scope",
            slice=KUBE_SLICE,
        ),
        "pod burstable d11ab7b0/3193584578ea",
    ),
    # machined, nspawn, libvirt
    (
        "machined",
        "/machine.slice/machine-build\\x2dbox.scope/payload/init",
        {
            "kind": "container",
            "engine": "nspawn",
            "name": "build-box",
            "unit": "machine-build\\x2dbox.scope",
            "slice": "machine.slice",
        },
        "nspawn build-box",
    ),
    (
        "nspawn service",
        "/machine.slice/systemd-nspawn@deb12.service/payload",
        {
            "kind": "container",
            "engine": "nspawn",
            "name": "deb12",
            "unit": "systemd-nspawn@deb12.service",
            "slice": "machine.slice",
        },
        "nspawn deb12",
    ),
    (
        "nspawn supervisor",
        "/machine.slice/systemd-nspawn@deb12.service/supervisor",
        {
            "kind": "unit",
            "engine": "nspawn",
            "name": "deb12",
            "unit": "systemd-nspawn@deb12.service",
            "slice": "machine.slice",
        },
        "systemd-nspawn@deb12.service in nspawn deb12",
    ),
    (
        "unit in nspawn",
        "/machine.slice/systemd-nspawn@deb12.service/payload/system.slice/cron.service",
        {"kind": "unit", "engine": "nspawn", "name": "deb12", "unit": "cron.service", "slice": "system.slice"},
        "cron.service in nspawn deb12",
    ),
    (
        "libvirt",
        "/machine.slice/machine-qemu\\x2d4\\x2dweb\\x2dfront.scope/libvirt/vcpu0",
        {
            "kind": "machine",
            "engine": "libvirt",
            "id": "4",
            "name": "web-front",
            "unit": "machine-qemu\\x2d4\\x2dweb\\x2dfront.scope",
            "slice": "machine.slice",
        },
        "libvirt web-front",
    ),
    (
        "libvirt as /dev/kmsg escapes it",
        "/machine.slice/machine-qemu\\x5cx2d4\\x5cx2dweb.scope",
        {
            "kind": "machine",
            "engine": "libvirt",
            "id": "4",
            "name": "web",
            "unit": "machine-qemu\\x5cx2d4\\x5cx2dweb.scope",
            "slice": "machine.slice",
        },
        "libvirt web",
    ),
    (
        "libvirt cgroupfs",
        "/machine/web-front.libvirt-qemu/emulator",
        {"kind": "machine", "engine": "libvirt", "name": "web-front"},
        "libvirt web-front",
    ),
    (
        "libvirt cgroupfs with its number",
        "/machine/qemu-7-web.libvirt-qemu",
        {"kind": "machine", "engine": "libvirt", "id": "7", "name": "web"},
        "libvirt web",
    ),
    # systemd
    (
        "service",
        "/system.slice/ssh.service",
        {"kind": "unit", "unit": "ssh.service", "slice": "system.slice"},
        "ssh.service",
    ),
    (
        "service that delegates",
        "/system.slice/worker.service/pool/3",
        {"kind": "unit", "unit": "worker.service", "slice": "system.slice"},
        "worker.service",
    ),
    (
        "template",
        "/system.slice/system-getty.slice/getty@tty1.service",
        {"kind": "unit", "unit": "getty@tty1.service", "slice": "system-getty.slice"},
        "getty@tty1.service",
    ),
    (
        "session",
        "/user.slice/user-1000.slice/session-3.scope",
        {"kind": "session", "unit": "session-3.scope", "slice": "user-1000.slice", "uid": 1000},
        "session-3.scope uid 1000",
    ),
    (
        "user unit",
        USER + "/app.slice/run-u640.service",
        {"kind": "unit", "unit": "run-u640.service", "slice": "app.slice", "uid": 1000},
        "run-u640.service uid 1000",
    ),
    (
        "user manager",
        USER,
        {"kind": "unit", "unit": "user@1000.service", "slice": "user-1000.slice", "uid": 1000},
        "user@1000.service",
    ),
    (
        "user manager itself",
        USER + "/init.scope",
        {"kind": "scope", "unit": "init.scope", "slice": "user-1000.slice", "uid": 1000},
        "init.scope uid 1000",
    ),
    (
        "user scope",
        USER + "/tmux-spawn-0bf53e04-2f6e-4642-bdc1-299e68be5987.scope",
        {
            "kind": "scope",
            "unit": "tmux-spawn-0bf53e04-2f6e-4642-bdc1-299e68be5987.scope",
            "slice": "user-1000.slice",
            "uid": 1000,
        },
        "tmux-spawn-0bf53e04-2f6e-4642-bdc1-299e68be5987.scope uid 1000",
    ),
    ("pid 1", "/init.scope", {"kind": "scope", "unit": "init.scope"}, "init.scope"),
    ("user slice", "/user.slice/user-0.slice", {"kind": "slice", "slice": "user-0.slice", "uid": 0}, "user-0.slice"),
    (
        "unit in docker",
        "/docker/" + CID + "/system.slice/hoglim.service",
        {"kind": "unit", "engine": "docker", "id": CID, "unit": "hoglim.service", "slice": "system.slice"},
        "hoglim.service in docker 3193584578ea",
    ),
    (
        "the unit around a container is not the unit in it",
        "/system.slice/" + DOCKER_SCOPE + "/init.scope",
        {"kind": "scope", "engine": "docker", "id": CID, "unit": "init.scope"},
        "init.scope in docker 3193584578ea",
    ),
    # Schedulers
    (
        "ecs v1",
        "/ecs/" + STATIC + "/" + CID,
        container("docker", pod_uid=STATIC),
        "docker 3193584578ea",
    ),
    ("ecs v1 task", "/ecs/" + ALLOC, {"kind": "pod", "engine": "ecs", "pod_uid": ALLOC}, "pod ecs 9b4d2c1e"),
    (
        "ecs v2",
        "/ecstasks.slice/ecstasks-" + STATIC + ".slice/" + DOCKER_SCOPE,
        container("docker", pod_uid=STATIC, unit=DOCKER_SCOPE, slice="ecstasks-" + STATIC + ".slice"),
        "docker 3193584578ea",
    ),
    (
        "nomad v1",
        "/nomad/" + ALLOC + ".web.front",
        {"kind": "job", "engine": "nomad", "id": ALLOC, "name": "web.front"},
        "nomad 9b4d2c1e web.front",
    ),
    (
        "nomad v2",
        "/nomad.slice/share.slice/" + ALLOC + ".web.scope",
        {
            "kind": "job",
            "engine": "nomad",
            "id": ALLOC,
            "name": "web",
            "unit": ALLOC + ".web.scope",
            "slice": "share.slice",
        },
        "nomad 9b4d2c1e web",
    ),
    (
        "slurm v1 step",
        "/slurm/uid_1001/job_4711/step_batch/task_0",
        {"kind": "job", "engine": "slurm", "id": "4711", "name": "step_batch", "uid": 1001},
        "slurm 4711 step_batch",
    ),
    (
        "slurm v1 job on a multi-node host",
        "/slurm_node7/uid_1001/job_4711",
        {"kind": "job", "engine": "slurm", "id": "4711", "uid": 1001},
        "slurm 4711",
    ),
    (
        "slurm v2",
        "/system.slice/slurmstepd.scope/job_4711/step_0/user/task_0",
        {
            "kind": "job",
            "engine": "slurm",
            "id": "4711",
            "name": "step_0",
            "unit": "slurmstepd.scope",
            "slice": "system.slice",
        },
        "slurm 4711 step_0",
    ),
    (
        "slurm v2 job with the node in the name",
        "/system.slice/node7_slurmstepd.scope/job_4711",
        {
            "kind": "job",
            "engine": "slurm",
            "id": "4711",
            "unit": "node7_slurmstepd.scope",
            "slice": "system.slice",
        },
        "slurm 4711",
    ),
    # containerd without Kubernetes
    ("ctr", "/default/" + CID, container("containerd"), "containerd 3193584578ea"),
    (
        "nerdctl",
        "/system.slice/nerdctl-" + CID + ".scope",
        container("containerd", unit="nerdctl-" + CID + ".scope", slice="system.slice"),
        "containerd 3193584578ea",
    ),
    # What /proc/<pid>/cgroup shows to a viewer in another cgroup namespace
    ("relative", "/../../docker/" + CID, container("docker"), "docker 3193584578ea"),
    ("slashes", "//docker///" + CID + "/", container("docker"), "docker 3193584578ea"),
]


@pytest.mark.parametrize("path,expected,label", [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_rows(path, expected, label):
    found = workload.identify(path)
    assert tuple(found) == workload.KEYS
    assert {key: value for key, value in found.items() if value is not None} == expected
    assert workload.label(found) == label


@pytest.mark.parametrize(
    "path",
    [
        "/with space (x)",
        "/ünï-日本",
        "/\udcff\udcfe",
        "/x) total-vm:35112kB",
        "/x invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL)",
        "/comma,task_memcg=/b",
        "/" + "L" * 255,
        "/.slice",
        "/.scope/.service",
        "/%n%s{{ 7*7 }}",
        "/user-" + "9" * 5000 + ".slice",
        "/user-٣.slice/session-٣.scope",
        "/job_٣/step_x",
        "/machine-\\x00\\xff\\x2.scope",
        "/new\nline/docker/\n" + CID,
        "\\" * 300,
        "no slash",
        "..",
        "machine-qemu\\x2d\\x2d.scope",
    ],
)
def test_hostile_names_end_as_json(path):
    found = workload.identify(path)
    assert tuple(found) == workload.KEYS
    assert found["kind"]
    json.loads(json.dumps([found, workload.label(found)]))


def test_undecodable_escapes_stay_visible():
    found = workload.identify("/machine.slice/machine-a\\xff\\x00\\xc3\\xa9.scope")
    assert found["name"] == "a\\xff\\x00é"


def test_result_is_the_callers_own():
    workload.identify("/docker/" + CID)["engine"] = "changed"
    assert workload.identify("/docker/" + CID)["engine"] == "docker"


def test_pod_label_prefers_names():
    found = workload.identify("/kubepods/burstable/pod" + UID + "/" + CID)
    found.update(pod_name="web-0", namespace="shop", container_name="nginx")
    assert workload.label(found) == "shop/web-0/nginx"


def test_label_of_anything():
    assert workload.label({}) == "unknown"
    assert workload.label({"kind": "unit"}) == "?"


@pytest.mark.parametrize(
    "unit",
    ["a/", "a.slice/", "lxc/", "x" * 255 + ".slice/", "-kubepods-" * 25 + "/", "\\x2d" * 60 + "/", "uid_1/job_1/"],
)
def test_time_is_linear_in_the_path(unit):
    """Ten times the path takes about ten times the time, never a hundred."""

    def seconds(times):
        path = "/" + unit * times
        start = time.perf_counter()
        workload.identify(path)
        return time.perf_counter() - start

    base = 8192 // len(unit) + 1
    assert min(seconds(base * 10) for _again in range(2)) < 40 * min(seconds(base) for _again in range(3)) + 1


@pytest.mark.parametrize(
    ("path", "uid"),
    [
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/user@2000.service/x.service", 1000),
        ("/docker/" + "ab" * 32 + "/user.slice/user-1000.slice/session-1.scope", None),
    ],
)
def test_nobody_names_himself_another_user(path, uid):
    assert workload.identify(path)["uid"] == uid
