# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of containers that are gone, from real journals of captured and published records."""

import os
import shutil
import subprocess
import sys

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import engine_journal, engines, run

REMOTE = "/lib/systemd/systemd-journal-remote"
START = 1795438575000000
HEAD = "__REALTIME_TIMESTAMP={0}\n__MONOTONIC_TIMESTAMP={1}\n_BOOT_ID=432c69a208204df2a4fcf603ea86771e\n_UID={2}\n"
HOST = run.Host()

DOCKER = "657ad4e46b5e5686b635e1e34077ced0be7a36077cc99ba7e9f620e6555e4094"
PODMAN = "9560a5cbc1bfb8dd749b2f82e0d34eddb00f0291bf0f9e396cd280ac44c29376"
IN_POD = "30d0da95fe59d1fcd352bad38fcfa5110f97f6d1cfcff36cc880dc7757613529"
POD = "e961bfb115b9a16bff70a4e19a35d74608efafe2e48d40eb3e96d18759a53f9c"
NOISY = "0" * 64
CID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
POD_UID = "27aff94d-e0d9-43d1-84d6-9ab000aa57e2"


def event(identifier, what, name, **more):
    fields = {
        "SYSLOG_IDENTIFIER": "podman",
        "PODMAN_TYPE": "container",
        "PODMAN_EVENT": what,
        "PODMAN_IMAGE": "localhost/lab/tiny:1.0",
        "PODMAN_ID": identifier,
        "PODMAN_NAME": name,
        "MESSAGE": "2026-11-23 12:56:20 +0000 UTC m=+1.0 container {0} {1} (name={2})".format(what, identifier, name),
    }
    return dict(fields, **more)


def line(identifier, name, message="about to grow", **more):
    fields = {
        "CONTAINER_ID_FULL": identifier,
        "CONTAINER_ID": identifier[:12],
        "CONTAINER_NAME": name,
        "CONTAINER_TAG": identifier[:12],
        "SYSLOG_IDENTIFIER": identifier[:12],
        "MESSAGE": message,
    }
    return dict(fields, **more)


# Fields as Docker 20.10, Podman 4.3 and conmon 2.1 wrote them (captured), and one container that writes much.
RECORDS = [
    line(DOCKER, "gone-jlog", IMAGE_NAME="lab/tiny:1.0", SECRET="hunter2"),
    event(PODMAN, "create", "pgone", PODMAN_LABELS='{"a":"b","com.docker.compose.project":"shop"}'),
    event(PODMAN, "died", "pgone", PODMAN_EXIT_CODE="137"),
    event(PODMAN, "remove", "pgone"),
    event(IN_POD, "remove", "inpod", PODMAN_POD_ID=POD, PODMAN_LABELS='{"from":"image"}'),
    event(POD, "remove", "mypod", PODMAN_TYPE="pod", PODMAN_IMAGE=""),
] + [line(NOISY, "noisy", "line {0}".format(number)) for number in range(300)]


def export(records):
    parts = []
    for number, fields in enumerate(records):
        text = HEAD.format(START + number, 1 + number, fields.get("_UID", 0))
        text += "".join("{0}={1}\n".format(key, value) for key, value in fields.items() if key != "_UID")
        parts.append(text + "\n")
    return "".join(parts).encode()


def build(folder, records):
    if shutil.which("journalctl") is None or not os.path.exists(REMOTE):
        pytest.skip(
            "journalctl and {0} (systemd-journal-remote) make and read the journals of this test".format(REMOTE)
        )
    command = [REMOTE, "--output", str(folder / "system.journal"), "-"]
    subprocess.run(command, input=export(records), stderr=subprocess.DEVNULL, check=True)
    return str(folder)


@pytest.fixture(scope="session")
def journal(tmp_path_factory):
    return build(tmp_path_factory.mktemp("journal"), RECORDS)


def test_output_of_a_container_that_is_gone(journal):
    row = engines.of_gone(HOST, [DOCKER], journal)[DOCKER]
    assert (row["name"], row["image"], row["name_source"]) == ("gone-jlog", "lab/tiny:1.0", "journal")
    assert (row["engine"], row["running"]) == (None, False)
    assert "hunter2" not in str(row)


def test_events_of_podman(journal):
    row = engines.of_gone(HOST, [PODMAN], journal)[PODMAN]
    assert (row["engine"], row["name"], row["image"]) == ("podman", "pgone", "localhost/lab/tiny:1.0")
    assert (row["labels"], row["compose_project"]) == ({"a": "b", "com.docker.compose.project": "shop"}, "shop")


def test_the_pod_of_a_container_that_is_gone(journal):
    by_id = engines.of_gone(HOST, [IN_POD], journal)
    assert (by_id[IN_POD]["pod_uid"], by_id[IN_POD]["pod_name"]) == (POD, "mypod")
    assert (by_id[POD]["name"], by_id[POD]["engine"]) == ("mypod", "podman")


def test_all_at_once_and_by_the_first_twelve_digits(journal):
    by_id = engines.of_gone(HOST, [NOISY[:12], DOCKER[:12], PODMAN, CID], journal)
    assert {row["name"] for row in by_id.values()} == {"noisy", "gone-jlog", "pgone"}
    assert NOISY in by_id


def test_an_id_that_nobody_knows(journal):
    assert engines.of_gone(HOST, [CID], journal) == {}


@pytest.mark.parametrize("identifier", ["", "x", "*", "--user", "a b", "A" * 64, "0123456789ab|", "lxc:web", "é" * 12])
def test_what_is_no_id_never_reaches_a_command(identifier):
    host = run.Host(stream=lambda argv: pytest.fail("called: {0}".format(argv)))
    assert engines.of_gone(host, [identifier]) == {}


# Published lines of the daemons, ids and names replaced.
MESSAGES = [
    (
        "kubelet",
        'I1012 19:34:45.357018    2480 kubelet.go:2231] "SyncLoop (PLEG): event for pod" pod="default/nginx" '
        "event=&{ID:" + POD_UID + " Type:ContainerDied Data:" + CID + "}",
        {"pod_uid": POD_UID, "pod_name": "nginx", "namespace": "default", "container_name": None, "engine": None},
    ),
    (
        "kubelet",
        'I0828 09:46:33.500000    2480 kubelet.go:2406] "SyncLoop (PLEG): event for pod" pod="default/nginx" '
        'event={"ID":"' + POD_UID + '","Type":"ContainerStarted","Data":"' + CID + '"}',
        {"pod_uid": POD_UID, "pod_name": "nginx", "namespace": "default", "container_name": None, "engine": None},
    ),
    (
        "kubelet",
        'I0828 09:46:33.500000 2480 kubelet.go:1933] SyncLoop (PLEG): "foo_shop(' + POD_UID + ')", event: '
        '&pleg.PodLifecycleEvent{ID:"' + POD_UID + '", Type:"ContainerStarted", Data:"' + CID + '"}',
        {"pod_uid": POD_UID, "pod_name": "foo", "namespace": "shop", "container_name": None, "engine": None},
    ),
    (
        "crio",
        'time="2026-05-27T16:02:35.014226005Z" level=info msg="Created container ' + CID + ": "
        'node-density-0/node-density-956/node-density" id=ab name=/runtime.v1.RuntimeService/CreateContainer',
        {
            "pod_name": "node-density-956",
            "namespace": "node-density-0",
            "container_name": "node-density",
            "engine": "cri-o",
        },
    ),
    (
        "containerd",
        'time="2023-11-11T17:48:11.939738749-05:00" level=info msg="CreateContainer within sandbox \\"'
        + "9" * 64
        + '\\" for &ContainerMetadata{Name:kube-controller-manager,Attempt:9,} returns container id \\"'
        + CID
        + '\\""',
        {"container_name": "kube-controller-manager", "name": "kube-controller-manager", "engine": "containerd"},
    ),
    (
        "containerd",
        'time="2026-08-27T06:47:30.461392332+08:00" level=info msg="CreateContainer within sandbox \\"'
        + "9" * 64
        + '\\" for name:\\"spaceship\\" returns container id \\"'
        + CID
        + '\\""',
        {"container_name": "spaceship", "engine": "containerd"},
    ),
    (
        "containerd",
        'time="2023-11-11T17:48:11.939738749-05:00" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:web-7c9d,'
        "Uid:" + POD_UID + ',Namespace:shop,Attempt:0,} returns sandbox id \\"' + CID + '\\""',
        {"pod_uid": POD_UID, "pod_name": "web-7c9d", "namespace": "shop", "engine": "containerd"},
    ),
    (
        "containerd",
        'time="2026-08-27T06:47:30.461392332+08:00" level=info msg="RunPodSandbox for name:\\"web-7c9d\\" uid:\\"'
        + POD_UID
        + '\\" namespace:\\"shop\\" returns sandbox id \\"'
        + CID
        + '\\""',
        {"pod_uid": POD_UID, "pod_name": "web-7c9d", "namespace": "shop", "engine": "containerd"},
    ),
]


@pytest.mark.parametrize("identifier, message, expected", MESSAGES)
def test_messages_of_daemons(tmp_path, identifier, message, expected):
    other = message.replace(CID, "f" * 64)
    records = [{"SYSLOG_IDENTIFIER": identifier, "MESSAGE": text} for text in (other, message, "x" + CID)]
    by_id = engines.of_gone(HOST, [CID], build(tmp_path, records))
    assert "f" * 64 not in by_id
    assert {key: by_id[CID][key] for key in expected} == expected


def test_daemons_add_to_each_other(tmp_path):
    records = [{"SYSLOG_IDENTIFIER": MESSAGES[row][0], "MESSAGE": MESSAGES[row][1]} for row in (4, 0)]
    row = engines.of_gone(HOST, [CID], build(tmp_path, records))[CID]
    assert (row["pod_name"], row["namespace"], row["container_name"]) == ("nginx", "default", "kube-controller-manager")


def test_what_other_programs_write_is_no_message_of_a_daemon(tmp_path):
    folder = build(tmp_path, [{"SYSLOG_IDENTIFIER": "sshd", "MESSAGE": MESSAGES[3][1]}])
    assert engines.of_gone(HOST, [CID], folder) == {}


FORGED = [
    event(CID, "died", "evil", _UID=1000),
    line(CID, "evil", _UID=1000),
    {"SYSLOG_IDENTIFIER": "kubelet", "MESSAGE": MESSAGES[0][1], "_UID": 1000},
]


def test_what_a_user_logs_names_no_container_of_the_host(tmp_path):
    assert engines.of_gone(HOST, [CID], build(tmp_path, FORGED)) == {}


def test_what_a_user_logs_does_not_hide_what_root_logged(tmp_path):
    folder = build(tmp_path, FORGED + [line(CID, "db", IMAGE_NAME="pg")] + FORGED)
    by_id = engines.of_gone(HOST, ["1000:" + CID, CID, "1001:" + CID], folder)
    assert {at: (row["name"], row["uid"], row["id"]) for at, row in by_id.items() if row["id"] == CID} == {
        CID: ("db", None, CID),
        "1000:" + CID: ("evil", 1000, CID),
    }


@pytest.mark.parametrize("uid", ["0", "00", "-1", "x", "99999999999", ""])
def test_users_that_are_none(uid):
    host = run.Host(stream=lambda argv: pytest.fail("called: {0}".format(argv)))
    assert engines.of_gone(host, ["{0}:{1}".format(uid, CID)]) == {}


def test_containers_of_users_are_looked_for_last(monkeypatch):
    asked = []

    def stream(argv):
        asked.append(" ".join(argv))
        return run.Running(iter(()), lambda: run.Ended(0, ""))

    many = ["1000:{0:064x}".format(number) for number in range(1000)]
    engines.of_gone(run.Host(stream=stream), many + [CID, OTHER])
    assert ["_UID=0" in argv for argv in asked if "PODMAN" in argv] == [True, False]
    assert CID in asked[0] and OTHER in asked[0]


def test_the_journal_of_a_copied_tree(tmp_path):
    asked = []

    def stream(argv):
        asked.append(argv)
        return run.Running(iter(()), lambda: run.Ended(1, "No journal files were found.\n"))

    assert engines.of_gone(run.Host(str(tmp_path), stream), [CID]) == {}
    assert asked
    assert all("--root=" + str(tmp_path) in argv for argv in asked)


def test_a_journal_that_takes_too_long_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_journal, "SECONDS", 0.5)
    slow = tmp_path / "journalctl"
    slow.write_text(
        '#!{0}\nimport sys, time\nprint(\'{{"PODMAN_ID": "{1}", "PODMAN_NAME": "x"}}\', flush=True)\n'
        "time.sleep(600)\n".format(sys.executable, CID)
    )
    slow.chmod(0o755)
    by_id = engines.of_gone(HOST._replace(which=lambda name: str(slow)), [CID, DOCKER])
    assert [row["name"] for row in by_id.values()] == ["x"]


def test_only_some_ids_are_looked_for(monkeypatch):
    asked = []

    def stream(argv):
        asked.append(argv)
        return run.Running(iter(()), lambda: run.Ended(0, ""))

    engines.of_gone(run.Host(stream=stream), ["{0:064x}".format(number) for number in range(1000)])
    assert len(asked) == 3
    assert all(len(" ".join(argv)) < 10000 for argv in asked)
