# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of bounded text, and how they fill the workload that a cgroup path gave."""

import pytest
from ansible_collections.oom.forensics.plugins.module_utils import _options
from ansible_collections.oom.forensics.plugins.module_utils._host import engine_rows, engines
from ansible_collections.oom.forensics.plugins.module_utils._oom import workload

CID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
POD_UID = "3f1c9a52-7d0e-4b8a-9c64-5e2f8a17b0d3"
KUBE = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{0}.slice".format(POD_UID.replace("-", "_"))


def table(*rows):
    by_id = {}
    engine_rows.merge(by_id, rows)
    engine_rows.merge(by_id, engine_rows.pods(list(by_id.values())))
    return by_id


WEB = engine_rows.row(
    "docker",
    CID,
    "engine",
    name="shop-web-1",
    image="web:1",
    labels={"com.docker.compose.project": "shop", "com.docker.compose.service": "web"},
    running=True,
)
POD = engine_rows.row(
    "containerd",
    CID,
    "engine",
    name="web",
    labels={
        "io.kubernetes.container.name": "web",
        "io.kubernetes.pod.name": "web-7c9d",
        "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.pod.uid": POD_UID,
    },
)


def fill(path, by_id):
    before = workload.identify(path)
    copy = dict(before)
    filled = engines.fill(before, by_id)
    assert before == copy
    assert tuple(filled) == workload.KEYS
    for key in ("kind", "unit", "slice", "uid", "qos", "id"):
        assert filled[key] == before[key]
    return filled


def test_a_container():
    filled = fill("/system.slice/docker-{0}.scope".format(CID), table(WEB))
    assert (filled["name"], filled["image"], filled["name_source"]) == ("shop-web-1", "web:1", "engine")
    assert (filled["compose_project"], filled["compose_service"]) == ("shop", "web")
    assert filled["labels"] == WEB["labels"]


def test_a_path_that_does_not_tell_the_engine():
    filled = fill("/tenant/" + CID, table(WEB))
    assert (filled["engine"], filled["name"]) == ("docker", "shop-web-1")


def test_a_container_that_nobody_knows():
    filled = fill("/docker/" + OTHER, table(WEB))
    assert (filled["name"], filled["name_source"], filled["id"]) == (None, None, OTHER)
    assert fill(None, table(WEB))["name_source"] is None
    assert fill("/system.slice/sshd.service", table(WEB)) == workload.identify("/system.slice/sshd.service")


@pytest.mark.parametrize("digits, name", [(12, "shop-web-1"), (11, None), (63, "shop-web-1")])
def test_the_beginning_of_an_id(digits, name):
    blank = dict(dict.fromkeys(workload.KEYS), kind="container", id=CID[:digits])
    assert engines.fill(blank, table(WEB))["name"] == name


def test_the_monitor_of_a_container_and_a_unit_inside_it():
    monitor = fill("/machine.slice/libpod-conmon-{0}.scope".format(CID), table(WEB))
    assert (monitor["kind"], monitor["name"]) == ("scope", "shop-web-1")
    inside = fill("/docker/{0}/system.slice/nginx.service".format(CID), table(WEB))
    assert (inside["kind"], inside["unit"], inside["name"]) == ("unit", "nginx.service", "shop-web-1")


MANAGER = "/user.slice/user-{0}.slice/user@{0}.service"
HERS = engine_rows.row("podman", CID, "state", 1000, name="hers", image="z")


@pytest.mark.parametrize(
    "path, name",
    [
        ("/system.slice/docker-{0}.scope", "shop-web-1"),
        ("/tenant/{0}", "shop-web-1"),
        (MANAGER.format(1000) + "/user.slice/libpod-{0}.scope", "hers"),
        (MANAGER.format(1000) + "/app.slice/docker-{0}.scope", "hers"),
        (MANAGER.format(1000) + "/user.slice/libpod-conmon-{0}.scope", "hers"),
        (MANAGER.format(1001) + "/user.slice/libpod-{0}.scope", None),
        (MANAGER.format(1000) + "/user-0.slice/docker-{0}.scope", "hers"),
    ],
)
@pytest.mark.parametrize("digits", [64, 12])
def test_a_row_is_of_one_user_only(path, name, digits):
    """Below his own manager a user gives cgroups any name, and in his own files containers any id."""
    for rows in ((WEB, HERS), (HERS, WEB)):
        before = workload.identify(path.format(CID))
        filled = engines.fill(dict(before, id=before["id"][:digits]), table(*rows))
        assert (filled["name"], filled["uid"]) == (name, before["uid"])
        assert filled["name_source"] == {"shop-web-1": "engine", "hers": "state"}.get(name)


def test_a_user_without_rows_gets_none_of_root_and_root_none_of_users():
    below = MANAGER.format(1000) + "/app.slice/docker-{0}.scope".format(CID)
    assert fill(below, table(WEB)) == workload.identify(below)
    above = "/system.slice/docker-{0}.scope".format(CID)
    assert fill(above, table(HERS)) == workload.identify(above)
    assert fill(above, {CID: HERS}) == workload.identify(above)


def test_pods_of_users_are_their_own():
    pod = "9" * 64
    hers, roots = (
        engine_rows.row("podman", each, "state", uid, name="a", pod_uid=pod, pod_name=name)
        for each, uid, name in ((CID, 1000, "hers"), (OTHER, None, "roots"))
    )
    by_id = table(hers, roots)
    assert by_id["1000:" + pod]["pod_name"] == "hers"
    path = "/user.slice/user-libpod_pod_{0}.slice/libpod-{1}.scope".format(pod, "1" * 64)
    assert fill(MANAGER.format(1000) + path, by_id)["pod_name"] == "hers"
    assert fill("/machine.slice" + path.replace("user", "machine"), by_id)["pod_name"] == "roots"


def test_a_container_of_a_pod_and_the_pod():
    by_id = table(POD)
    container = fill(KUBE + "/cri-containerd-{0}.scope".format(CID), by_id)
    assert (container["pod_name"], container["namespace"], container["container_name"]) == ("web-7c9d", "shop", "web")
    assert workload.label(container) == "shop/web-7c9d/web"
    pod = fill(KUBE, by_id)
    assert (pod["kind"], pod["name"], pod["pod_name"], pod["namespace"]) == ("pod", "web-7c9d", "web-7c9d", "shop")
    assert (pod["container_name"], pod["name_source"]) == (None, "engine")


def test_a_container_that_is_gone_from_a_pod_that_is_there():
    filled = fill(KUBE + "/cri-containerd-{0}.scope".format(OTHER), table(POD))
    assert (filled["name"], filled["pod_name"], filled["namespace"]) == (None, "web-7c9d", "shop")
    assert filled["name_source"] == "engine"


def test_machines_have_their_whole_name_by_number():
    row = engine_rows.row("libvirt", "libvirt:59", "state", name="build & test of everything")
    filled = fill("/machine.slice/machine-qemu\\x2d59\\x2dbuildtest.scope/libvirt/emulator", table(row))
    assert (filled["name"], filled["id"]) == ("build & test of everything", "59")


def test_lxc_containers_are_known_by_name():
    row = engine_rows.row("lxc", "lxc:web", "state", name="web", image="Debian bookworm")
    for path in ("/lxc.payload.web", "/lxc.payload.web/system.slice/nginx.service"):
        filled = fill(path, table(row))
        assert (filled["name"], filled["image"], filled["name_source"]) == ("web", "Debian bookworm", "state")


def test_what_two_sources_know_is_put_together():
    by_id = table(WEB, engine_rows.row(None, CID, "journal", name="other", image="x", pod_name="p"))
    assert (by_id[CID]["name"], by_id[CID]["pod_name"], by_id[CID]["name_source"]) == ("shop-web-1", "p", "engine")


@pytest.mark.parametrize("identifier", [None, "", 7, [], {}])
def test_a_row_without_id_is_none(identifier):
    assert engine_rows.row("docker", identifier, "engine", name="x") is None


HOSTILE = ["\ud800", "\x00\x1b[31m", "{{ lookup('pipe', 'id') }}", "a" * 100000, "", 7, None, [], {"a": {}}, True]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_are_bounded_and_never_raise(value):
    labels = {"com.docker.compose.project": value, str(value)[:5000]: value, 3: value}
    row = engine_rows.row(
        "docker", CID, "engine", name=value, image=value, labels=labels, facts=value, pod_uid=value, running=value
    )
    assert tuple(row) == engine_rows.KEYS
    _options.utf8(row)["name"]
    assert all(value is None or len(value) <= 512 for key, value in row.items() if key not in ("labels", "running"))
    assert all(len(key) <= 256 and len(text) <= 256 for key, text in row["labels"].items())
    engine_rows.row("docker", CID, "engine", labels=value)
    engine_rows.pods([row])


def test_labels_are_few_and_short():
    many = {"key{0}".format(number): "value" for number in range(1000)}
    assert len(engine_rows.bounded(many)) == 64
    long = {"a": "x" * 300, "config": "x" * 1025, "z": "x" * 1024}
    assert engine_rows.bounded(long) == {"a": "x" * 256, "z": "x" * 256}
    assert sum(map(len, engine_rows.bounded({"k{0}".format(n): "x" * 1000 for n in range(64)}).values())) <= 8192
    assert engine_rows.bounded({"a": 1, 2: "b", "c": None}) == {}


@pytest.mark.parametrize(
    "key",
    [
        "DB_PASSWORD",
        "app.secret",
        "traefik.http.middlewares.auth.basicauth.users",
        "api-key",
        "github.token",
        "PRIVATE_KEY",
    ],
)
def test_a_label_that_is_called_a_secret_is_left_out(key):
    assert engine_rows.bounded({key: "hunter2", "tier": "web"}) == {"tier": "web"}


OF_POD = {
    "io.kubernetes.container.name": "POD",
    "io.kubernetes.pod.name": "etcd",
    "io.kubernetes.pod.namespace": "kube-system",
    "io.kubernetes.pod.uid": POD_UID,
}


@pytest.mark.parametrize("engine", ["docker", "podman"])
@pytest.mark.parametrize("labels", [OF_POD, {"io.kubernetes.container.name": "POD"}])
def test_labels_make_no_container_a_part_of_a_pod(engine, labels):
    """An image's labels are its author's, and a pod's first container needs no limit of its own."""
    row = engine_rows.row(engine, CID, "engine", name="miner-infra", labels=labels)
    assert {row[key] for key in ("container_name", "pod_name", "namespace", "pod_uid")} == {None}
    assert row["labels"] == labels
    assert engine_rows.pods([row]) == []


@pytest.mark.parametrize(
    "engine, name",
    [
        ("docker", "k8s_POD_etcd_kube-system_{0}_0".format(POD_UID)),
        ("docker", "k8s_POD_{0}_kube-system_{1}_0".format("e" * 253, POD_UID)),
        ("containerd", "etcd"),
        ("cri-o", None),
    ],
)
def test_labels_of_kubelets_containers_are_believed(engine, name):
    row = engine_rows.row(engine, CID, "engine", name=name, labels=OF_POD)
    assert (row["container_name"], row["pod_name"], row["pod_uid"]) == ("POD", "etcd", POD_UID)


def test_kubelets_names_tell_the_pod():
    row = engine_rows.row("docker", CID, "state", name="k8s_web_web-7c9d_shop_{0}_2".format(POD_UID))
    assert (row["container_name"], row["pod_name"], row["namespace"], row["pod_uid"]) == (
        "web",
        "web-7c9d",
        "shop",
        POD_UID,
    )
    assert engine_rows.row("docker", CID, "state", name="k8s_web_shop")["pod_name"] is None
