# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names from the files that engines keep: captured trees, and shapes written after the engines' sources."""

import json
import os
import pathlib

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import engine_homes, engines, run
from ansible_collections.oom.forensics.plugins.module_utils._oom import workload

DEBIAN = pathlib.Path(__file__).resolve().parents[4] / "fixtures" / "engines" / "debian-12"
CID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
POD_UID = "3f1c9a52-7d0e-4b8a-9c64-5e2f8a17b0d3"


def write(root, path, text):
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text if isinstance(text, str) else json.dumps(text))


def read(root):
    return engines.read(run.Host(str(root)))


def source(names, engine):
    return next(each for each in names.sources if each["engine"] == engine)


def test_a_captured_host():
    names = read(DEBIAN)
    found = {row["name"]: (row["engine"], row["running"]) for row in names.by_id.values()}
    assert found == {
        "shop-web-1": ("docker", True),
        "odd_name.1-x": ("docker", True),
        "dead": ("docker", False),
        "pnolimit": ("podman", None),
        "psmall": ("podman", None),
        "prunc": ("podman", None),
        "3f151c12be36-infra": ("podman", None),
        "pod-a": ("podman", None),
        "pod-b": ("podman", None),
        "pvictim": ("podman", None),
        "pdead": ("podman", None),
        "rootless1": ("podman", None),
        "web": ("containerd", True),
        "web-7c9d": ("containerd", None),
        "lxmini": ("lxc", None),
    }
    assert {row["name_source"] for row in names.by_id.values()} == {"state"}
    assert [(each["engine"], each["workloads"]) for each in names.sources if each["available"]] == [
        ("docker", 3),
        ("podman", 9),
        ("containerd", 2),
        ("lxc", 1),
    ]


def test_no_environment_variable_is_told():
    assert (
        "hunter2"
        in (
            DEBIAN
            / "var/lib/docker/containers/6a542f46615495b0fc44f86fe66ced46b62d948333f493662f0590c7eb7d7b63/config.v2.json"
        ).read_text()
    )
    assert "hunter2" not in json.dumps(read(DEBIAN))


def test_labels_of_a_captured_container():
    by_name = {row["name"]: row for row in read(DEBIAN).by_id.values()}
    assert by_name["odd_name.1-x"]["labels"] == {"empty": "", "note": 'ünï, (x) = "quoted"; task=a,pid=1'}
    assert (by_name["shop-web-1"]["compose_project"], by_name["shop-web-1"]["compose_service"]) == ("shop", "web")
    assert (by_name["web"]["pod_name"], by_name["web"]["namespace"], by_name["web"]["pod_uid"]) == (
        "web-7c9d",
        "shop",
        POD_UID,
    )


@pytest.mark.parametrize("key", ["data-root", "graph"])
def test_docker_whose_files_are_elsewhere(tmp_path, key):
    write(tmp_path, "/etc/docker/daemon.json", {key: "/srv/docker/"})
    write(tmp_path, "/srv/docker/containers/{0}/config.v2.json".format(CID), {"ID": CID, "Name": "/far"})
    assert read(tmp_path).by_id[CID]["name"] == "far"


def test_docker_of_a_user(tmp_path):
    write(tmp_path, "/etc/passwd", "ann:x:1000:1000::/home/ann:/bin/sh\nbroken\n")
    path = "/home/ann/.local/share/docker/containers/{0}/config.v2.json".format(CID)
    write(tmp_path, path, {"ID": CID, "Name": "/hers"})
    row = read(tmp_path).by_id["1000:" + CID]
    assert (row["name"], row["id"], row["uid"]) == ("hers", CID, 1000)


def test_a_user_who_writes_the_id_of_a_container_of_root_adds_nothing_to_it(tmp_path):
    write(tmp_path, "/etc/passwd", "eve:x:1000:1000::/home/eve:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\n")
    config = {"ID": CID, "Name": "/db", "Config": {"Image": "pg", "Labels": {}}, "State": {"Running": True}}
    write(tmp_path, "/var/lib/docker/containers/{0}/config.v2.json".format(CID), config)
    alone = read(tmp_path).by_id[CID]
    labels = {
        "io.kubernetes.container.name": "POD",
        "io.kubernetes.pod.name": "etcd",
        "io.kubernetes.pod.uid": POD_UID,
        "com.docker.compose.project": "evil",
    }
    config = {"ID": CID, "Name": "/evil", "Config": {"Image": "z", "Labels": labels}}
    store = [{"id": CID, "names": ["evil"], "metadata": '{"image-name": "z"}'}]
    for user in ("eve", "bob"):
        share = "/home/{0}/.local/share".format(user)
        write(tmp_path, "{0}/docker/containers/{1}/config.v2.json".format(share, CID), config)
        write(tmp_path, share + "/containers/storage/vfs-containers/containers.json", store)
    by_id = read(tmp_path).by_id
    assert sorted(by_id) == sorted([CID, "1000:" + CID, "1001:" + CID])
    assert by_id[CID] == alone
    assert engines.fill(workload.identify("/docker/" + CID), by_id)["compose_project"] is None


def test_a_file_that_names_another_container_than_its_directory_is_not_believed(tmp_path):
    write(tmp_path, "/etc/passwd", "eve:x:1000:1000::/home/eve:/bin/sh\n")
    for place in ("/var/lib/docker", "/home/eve/.local/share/docker"):
        write(tmp_path, place + "/containers/{0}/config.v2.json".format(OTHER), {"ID": CID, "Name": "/evil"})
    assert read(tmp_path).by_id == {}


STORE = ".local/share/containers/storage/vfs-containers/containers.json"


@pytest.mark.parametrize("linked", range(1, len(STORE.split("/")) + 1))
def test_no_link_below_a_home_is_followed(tmp_path, linked):
    """Whatever the link shows: files that only root may read, or one that never ends."""
    write(tmp_path, "/etc/passwd", "eve:x:1000:1000::/home/eve:/bin/sh\n")
    write(tmp_path, "/secret/" + STORE, [{"id": CID, "names": ["theirs"]}])
    parts = STORE.split("/")[:linked]
    link = tmp_path.joinpath("home", "eve", *parts)
    link.parent.mkdir(parents=True)
    os.symlink(str(tmp_path.joinpath("secret", *parts)), str(link))
    names = read(tmp_path)
    assert (names.by_id, source(names, "podman")["error"]) == ({}, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="a file of another user is made by root")
def test_a_file_that_is_not_the_users_own_is_not_read(tmp_path):
    """Where hard links are not protected, a user may have one to a file of root's."""
    write(tmp_path, "/etc/passwd", "eve:x:1000:1000::/home/eve:/bin/sh\n")
    write(tmp_path, "/home/eve/" + STORE, [{"id": CID, "names": ["hers"]}])
    os.chown(str(tmp_path / "home/eve"), 1000, 1000)
    assert read(tmp_path).by_id == {}
    os.chown(str(tmp_path / "home/eve" / STORE), 1000, 1000)
    assert list(read(tmp_path).by_id) == ["1000:" + CID]


@pytest.mark.parametrize("bound, value", [("CONTAINERS", 3), ("SECONDS", -1.0), ("BYTES", 10)])
def test_a_home_has_its_bounds(tmp_path, monkeypatch, bound, value):
    write(tmp_path, "/etc/passwd", "eve:x:1000:1000::/home/eve:/bin/sh\n")
    many = [{"id": "{0:064x}".format(number), "names": ["x"]} for number in range(9)]
    write(tmp_path, "/home/eve/" + STORE, many)
    write(tmp_path, "/home/eve/" + STORE.replace("vfs-", "zfs-"), many[:1])
    monkeypatch.setattr(engine_homes, bound, value)
    names = read(tmp_path)
    assert len(names.by_id) == {"CONTAINERS": 3}.get(bound, 0)
    assert source(names, "podman")["error"].startswith("The containers of /home/eve are not all known: more than")
    assert source(names, "podman")["available"] is (bound == "CONTAINERS")
    assert source(names, "lxc")["error"] is None


def test_many_names_in_a_home_are_not_all_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_homes, "_NAMES", 2)
    write(tmp_path, "/etc/passwd", "eve:x:1000:1000::/home/eve:/bin/sh\n")
    for number in range(4):
        (tmp_path / "home/eve/.local/share/docker/containers" / str(number)).mkdir(parents=True)
    assert "/home/eve" in source(read(tmp_path), "docker")["error"]


def test_what_stands_in_the_home_of_root_is_of_the_host(tmp_path):
    write(tmp_path, "/etc/passwd", "root:x:0:0::/root:/bin/sh\nodd:x:\u00b2:0::/root:/bin/sh\n")
    write(tmp_path, "/root/" + STORE, [{"id": CID, "names": ["own"]}])
    assert read(tmp_path).by_id[CID]["uid"] is None


def test_a_pipe_in_the_place_of_a_store_is_not_waited_for(tmp_path):
    write(tmp_path, "/etc/passwd", "eve:x:1000:1000::/home/eve:/bin/sh\n")
    store = tmp_path / "home/eve/.local/share/containers/storage/x-containers"
    config = tmp_path / "home/eve/.local/share/docker/containers" / CID
    for directory, name in ((store, "containers.json"), (config, "config.v2.json")):
        directory.mkdir(parents=True)
        os.mkfifo(str(directory / name))
    assert read(tmp_path).by_id == {}


def test_homes_of_absent_users_are_not_looked_at(tmp_path, monkeypatch):
    """They may be on a file server that does not answer."""
    monkeypatch.setattr(run, "live", lambda host: True)
    us = os.getuid()
    lines = ("ann:x:54321:1000::/home/ann:/bin/sh", "bob:x:{0}:1001::/home/bob:/bin/sh".format(us))
    write(tmp_path, "/etc/passwd", "\n".join(lines))
    (tmp_path / "run/user/{0}".format(us)).mkdir(parents=True)
    for home, identifier in (("ann", CID), ("bob", OTHER)):
        path = "/home/{0}/.local/share/docker/containers/{1}/config.v2.json".format(home, identifier)
        write(tmp_path, path, {"ID": identifier, "Name": home})
    host = run.Host(str(tmp_path), which=lambda name: None)
    assert [row["id"] for row in engines.read(host).by_id.values()] == [OTHER]


@pytest.mark.parametrize("store", ["containers.json", "volatile-containers.json"])
def test_podman_whose_store_is_elsewhere(tmp_path, store):
    write(tmp_path, "/etc/containers/storage.conf", '[storage]\ngraphroot = "/srv/store"\n# graphroot = "/no"\n')
    container = {"id": CID, "names": ["far"], "metadata": '{"image-name": "localhost/a:1"}'}
    write(tmp_path, "/srv/store/btrfs-containers/" + store, [container])
    row = read(tmp_path).by_id[CID]
    assert (row["engine"], row["name"], row["image"]) == ("podman", "far", "localhost/a:1")


def test_cri_o(tmp_path):
    """cri-o: internal/storage/runtime.go, RuntimeContainerMetadata; names as kubelet's managers give them."""
    containers = [
        {
            "id": CID,
            "names": ["k8s_web_web-7c9d_shop_{0}_2".format(POD_UID)],
            "metadata": json.dumps({"pod-name": "k8s_x", "pod-id": OTHER, "name": "web", "image-name": "a/b:1"}),
        },
        {
            "id": OTHER,
            "names": ["k8s_POD_web-7c9d_shop_{0}_0".format(POD_UID)],
            "metadata": json.dumps({"pod": True, "pod-name": "k8s_x", "pod-id": OTHER, "namespace": "shop"}),
        },
    ]
    write(tmp_path, "/var/lib/containers/storage/overlay-containers/containers.json", containers)
    names = read(tmp_path)
    row = names.by_id[CID]
    assert (row["engine"], row["image"]) == ("cri-o", "a/b:1")
    assert (row["container_name"], row["pod_name"], row["namespace"], row["pod_uid"]) == (
        "web",
        "web-7c9d",
        "shop",
        POD_UID,
    )
    assert names.by_id[OTHER]["container_name"] == "POD"
    assert names.by_id[POD_UID]["name"] == "web-7c9d"
    assert (source(names, "cri-o")["workloads"], source(names, "podman")["available"]) == (2, False)


def test_nerdctl_and_docker_below_containerd(tmp_path):
    """nerdctl writes its labels as annotations; moby is Docker's namespace, which Docker itself names."""
    tasks = "/run/containerd/io.containerd.runtime.v2.task/"
    write(tmp_path, tasks + "default/{0}/config.json".format(CID), {"annotations": {"nerdctl/name": "cache"}})
    write(tmp_path, tasks + "moby/{0}/config.json".format(OTHER), {"annotations": {}})
    by_id = read(tmp_path).by_id
    assert (by_id[CID]["name"], by_id[CID]["engine"], by_id[CID]["running"]) == ("cache", "containerd", True)
    assert OTHER not in by_id


def test_logs_of_kubernetes_name_containers_that_are_gone(tmp_path):
    write(tmp_path, "/var/log/pods/shop_web-7c9d_{0}/web/0.log".format(POD_UID), "")
    (tmp_path / "var/log/containers").mkdir()
    link = tmp_path / "var/log/containers" / "web-7c9d_shop_web-{0}.log".format(CID)
    os.symlink("/var/log/pods/shop_web-7c9d_{0}/web/0.log".format(POD_UID), str(link))
    write(tmp_path, "/var/log/containers/not-a-container.log", "")
    by_id = read(tmp_path).by_id
    assert sorted(by_id) == [CID, POD_UID]
    row = by_id[CID]
    assert (row["name"], row["container_name"], row["pod_name"], row["namespace"]) == (
        "web",
        "web",
        "web-7c9d",
        "shop",
    )
    assert (row["pod_uid"], row["engine"], row["running"]) == (POD_UID, None, None)
    assert (by_id[POD_UID]["pod_name"], by_id[POD_UID]["engine"]) == ("web-7c9d", "kubernetes")


def test_incus_keeps_the_image_beside_the_root_file_system(tmp_path):
    metadata = "architecture: x86_64\ncreation_date: 1\nproperties:\n  description: 'Debian bookworm'\n  name: x\n"
    write(tmp_path, "/var/lib/incus/containers/shop_web/metadata.yaml", metadata)
    write(tmp_path, "/var/lib/incus/containers/file", "")
    names = read(tmp_path)
    assert [(row["id"], row["name"], row["image"]) for row in names.by_id.values()] == [
        ("lxc:shop_web", "shop_web", "Debian bookworm")
    ]


def test_libvirt_knows_the_whole_name_of_a_machine(tmp_path):
    """Shape of libvirt's status files (src/conf/virdomainobjlist.c); systemd's name for the machine is cut at 64."""
    status = (
        "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n"
        "<domstatus state='running' reason='booted' pid='1'>\n  <monitor path='/x' type='unix'/>\n"
        "  <domain type='kvm' id='59'>\n    <name>build &amp; test</name>\n    <uuid>78177d07</uuid>\n"
        "    <devices><disk><name>no</name></disk></devices>\n  </domain>\n</domstatus>\n"
    )
    write(tmp_path, "/run/libvirt/qemu/build.xml", status)
    write(tmp_path, "/run/libvirt/qemu/broken.xml", "<domstatus")
    by_id = read(tmp_path).by_id
    assert [(row["id"], row["name"], row["running"]) for row in by_id.values()] == [
        ("libvirt:59", "build & test", True)
    ]


def test_a_directory_that_may_not_be_read_is_said(tmp_path, monkeypatch):
    (tmp_path / "var/lib/docker/containers").mkdir(parents=True)
    listdir = os.listdir

    def denied(path):
        if str(path).endswith("docker/containers"):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", denied)
    about = source(read(tmp_path), "docker")
    assert about["available"] is False
    assert about["error"] == "/var/lib/docker/containers could not be read: permission denied."
    assert "become: true" in about["advice"]


def test_an_empty_host_has_nothing_and_no_error(tmp_path):
    names = read(tmp_path)
    assert names.by_id == {}
    assert [each["engine"] for each in names.sources] == [
        "docker",
        "podman",
        "containerd",
        "cri-o",
        "kubernetes",
        "lxc",
        "libvirt",
    ]
    assert all(each["error"] is None and each["available"] is False for each in names.sources)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "3", '"x"', '[{"id": {}}]', "[" * 3000, "\ud800" * 3])
def test_files_that_are_no_files_of_an_engine(tmp_path, text):
    paths = (
        "/etc/docker/daemon.json",
        "/etc/containers/storage.conf",
        "/etc/passwd",
        "/var/lib/docker/containers/{0}/config.v2.json".format(CID),
        "/var/lib/containers/storage/overlay-containers/containers.json",
        "/run/containerd/io.containerd.runtime.v2.task/k8s.io/{0}/config.json".format(CID),
        "/run/libvirt/qemu/a.xml",
        "/var/lib/lxd/containers/a/metadata.yaml",
    )
    for path in paths:
        place = tmp_path / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode("utf-8", "surrogatepass"))
    names = read(tmp_path)
    assert set(names.by_id) <= {CID, "lxc:a"}
    assert all(row["name"] in (None, "a") for row in names.by_id.values())
