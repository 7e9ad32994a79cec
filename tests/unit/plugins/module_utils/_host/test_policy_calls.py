# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How commands of managers fail: the sentence, the advice, and that nothing is waited for without end."""

import sys

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import policy_calls, run

UPDATE = ["/usr/bin/docker", "--host", "unix:///run/docker.sock", "update", "--memory=7340032", "7ed14990d79c"]
# Docker 20.10.24 with the command 28.2.2, Podman 4.3.1 with runc 1.1.5.
BELOW_USAGE = (
    "Error response from daemon: Cannot update container 7ed14990d79c: runc did not terminate successfully: exit status "
    "1: unable to set memory limit to 7340032 (current usage: 30789632, peak usage: 30941184)\n: unknown\n"
)
PODMAN_BELOW_USAGE = (
    'time="2026-11-24T10:54:31Z" level=warning msg="Setting back cgroup configs failed due to error: unable to set '
    "memory limit to 100000 (current usage: 479232, peak usage: 4096000), your state.json and actual configs might be "
    'inconsistent."\n'
    'time="2026-11-24T10:54:31Z" level=error msg="unable to set memory limit to 100000 (current usage: 483328, peak '
    'usage: 4096000)"\n'
    "Error: `/usr/bin/runc update --resources=/var/tmp/podman1996140910 cb64c0efe430` failed: exit status 1\n"
)
WRITE_REFUSED = (
    'time="2026-11-24T10:54:30Z" level=error msg="failed to write \\"9223372036854771712\\": invalid argument"\n'
    "Error: `/usr/bin/runc update` failed: exit status 1\n"
)
DOWN = "Cannot connect to the Docker daemon at unix:///run/docker.sock. Is the docker daemon running?\n"


def host(status, stderr, stdout=b"done\n"):
    return run.Host(stream=lambda argv: run.Running(iter([stdout]), lambda: run.Ended(status, stderr)))


def test_what_it_prints():
    assert policy_calls.call(host(0, "a warning"), UPDATE) == b"done\n"


@pytest.mark.parametrize(
    "stderr, message, advice",
    [
        (
            BELOW_USAGE,
            "`docker update` failed: Error response from daemon: Cannot update container 7ed14990d79c: runc did not "
            "terminate successfully: exit status 1: unable to set memory limit to 7340032 (current usage: 30789632, "
            "peak usage: 30941184).",
            "higher memory_max",
        ),
        (
            PODMAN_BELOW_USAGE,
            "`docker update` failed: unable to set memory limit to 100000 (current usage: 483328, peak usage: 4096000).",
            "higher memory_max",
        ),
        (WRITE_REFUSED, '`docker update` failed: failed to write "9223372036854771712": invalid argument.', None),
        (DOWN, "`docker update` failed: Cannot connect to the Docker daemon", "daemon's log"),
        ("", "`docker update` failed: exit status 125.", None),
    ],
)
def test_a_failure_is_a_sentence(stderr, message, advice):
    with pytest.raises(policy_calls.ManagerError) as raised:
        policy_calls.call(host(125, stderr), UPDATE)
    assert str(raised.value).startswith(message)
    assert raised.value.advice is None if advice is None else advice in raised.value.advice


def test_a_failure_that_is_none():
    assert policy_calls.call(host(1, "Error: No such container: f"), UPDATE, forgiven="No such") == b"done\n"


def test_an_answer_without_end(monkeypatch):
    monkeypatch.setattr(policy_calls, "_LARGEST", 4)
    with pytest.raises(policy_calls.ManagerError, match="printed more than 4 bytes"):
        policy_calls.call(host(0, ""), UPDATE)


def test_a_manager_that_hangs(monkeypatch, tmp_path):
    monkeypatch.setattr(policy_calls, "SECONDS", 0.2)
    program = tmp_path / "docker"
    program.write_text("#!{0}\nimport time\ntime.sleep(600)\n".format(sys.executable))
    program.chmod(0o755)
    with pytest.raises(policy_calls.ManagerError, match="`docker update` gave no answer within 0.2 seconds") as raised:
        policy_calls.call(run.Host(), [str(program), "update"])
    assert "next run" in raised.value.advice
