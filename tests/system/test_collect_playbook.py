# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""collect_oom.yml as a user runs it: from the checkout, from an installed archive, on fleets with broken hosts.

Real ansible-playbook runs and a real kernel kill. Needs root, for the kill and for other users.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kernel import why_not

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
NOBODY = 65534

WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


class Run:
    """What a playbook run printed and left: exit status, output, events.json, documents."""

    def __init__(self, done, folder):
        self.status, self.output, self._folder = done.returncode, done.stdout, Path(folder)
        self.words = " ".join(done.stdout.split())

    @property
    def hosts(self):
        document = json.loads((self._folder / "events.json").read_text())
        assert document["schema"] == "oom.forensics/events/1"
        return {host["inventory_name"]: host for host in document["hosts"]}

    def documents(self, host):
        return sorted((self._folder / "spool" / host).iterdir())

    def recap(self, host):
        line = re.search(rf"^{re.escape(host)} +: (.*)$", self.output, re.M).group(1)
        return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)}


def plain_environment():
    """The environment without what makes the checkout's collection known."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PYTHONPATH"))}


def play(folder, *arguments, playbook=ROOT / "playbooks/collect_oom.yml", cwd=ROOT, collections=None, **environment):
    """Run the playbook into ``folder`` without an inventory, unless the arguments name one."""
    (folder / "ansible.cfg").write_text(
        "[defaults]\ninterpreter_python = auto_silent\n[connection]\npipelining = true\n[inventory]\n"
    )
    known = {
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(collections or ROOT / ".collections"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_HOME": str(folder / "home"),
    }
    argv = [str(BIN / "ansible-playbook"), str(playbook), "-e", f"oom_evidence_spool={folder}/spool", *arguments]
    done = subprocess.run(
        argv,
        cwd=cwd,
        env=plain_environment() | known | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    print(done.stdout)
    return Run(done, folder)


@pytest.fixture(scope="module")
def kill():
    """One real kill: what the drill says of it."""
    argv = [str(BIN / "ansible"), "localhost", "-i", "localhost,", "-c", "local", "-m", "oom.forensics.oom_drill"]
    argv += ["-e", f"ansible_python_interpreter={sys.executable}", "-a", "limit=16M"]
    known = {
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.oneline",
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(argv, env=os.environ | known, capture_output=True, text=True, timeout=180, check=False)
    assert "SUCCESS =>" in done.stdout or "CHANGED =>" in done.stdout, done.stdout + done.stderr
    return json.loads(done.stdout[done.stdout.index("{") :])


@pytest.fixture
def fleet(tmp_path):
    """Two hosts that are this one, and one that is not there."""
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    gone = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": {"web01": here, "web02": here, "gone": gone}}}))
    return str(inventory)


def has(host, kill):
    """The kill among the events of a host: exactly one, with the drill's pid, cgroup and limit."""
    (event,) = [
        event
        for event in host["events"]
        if event["limit_cgroup"] == kill["cgroup"] and kill["pid"] in [victim["pid"] for victim in event["victims"]]
    ]
    assert event["memory"]["limit_bytes"] == kill["limit_bytes"]
    return event


def test_from_the_checkout_as_the_readme_says(kill, tmp_path):
    """The checkout's own ansible.cfg and inventory, nothing in the environment."""
    argv = [str(BIN / "ansible-playbook"), "playbooks/collect_oom.yml", "-e", f"oom_evidence_spool={tmp_path}/spool"]
    done = subprocess.run(
        argv, cwd=ROOT, env=plain_environment(), capture_output=True, text=True, timeout=300, check=False
    )
    run = Run(done, tmp_path)
    assert run.status == 0, run.output + done.stderr
    event = has(run.hosts["localhost"], kill)
    row = next(line for line in run.output.splitlines() if f"[{kill['pid']}]" in line)
    assert event["time"][:19].replace("T", " ") in row
    assert "16 MiB own" in row
    assert kill["cgroup"].rpartition("/")[2][-8:] in row
    assert f"Evidence of each host: {tmp_path}/spool" in run.output
    assert f"All events: {tmp_path}/events.json" in run.output
    assert "invocation" not in run.output


def test_from_an_installed_archive_outside_the_checkout(kill, tmp_path):
    galaxy = str(BIN / "ansible-galaxy")
    # What is importable counts as installed, and the tests' own environment makes the checkout importable.
    quiet = plain_environment() | {"ANSIBLE_HOME": str(tmp_path / "home")}
    built, installed, elsewhere = tmp_path / "built", tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([galaxy, "collection", "build", "--output-path", built], cwd=ROOT, env=quiet, check=True)
    (archive,) = built.glob("oom-forensics-*.tar.gz")
    install = [galaxy, "collection", "install", "--offline", "--collections-path", installed, archive]
    subprocess.run(install, cwd=elsewhere, env=quiet, check=True)
    run = play(tmp_path, playbook="oom.forensics.collect_oom", cwd=elsewhere, collections=installed)
    assert run.status == 0
    has(run.hosts["localhost"], kill)
    assert not list(elsewhere.iterdir())


def test_the_spool_begins_where_the_run_was_started(kill, tmp_path):
    """PWD may say something else, as it does in a service or a make -C."""
    run = play(tmp_path, "-e", "oom_evidence_spool=oom-evidence/spool", cwd=tmp_path, PWD="/")
    assert run.status == 0
    assert (tmp_path / "oom-evidence" / "events.json").is_file()
    assert (tmp_path / "oom-evidence" / "spool" / "localhost").is_dir()


def test_a_second_run_adds_nothing_that_is_not_new(kill, tmp_path):
    first = play(tmp_path)
    before = first.hosts["localhost"]
    second = play(tmp_path)
    after = second.hosts["localhost"]
    assert (first.status, second.status) == (0, 0)
    assert len(second.documents("localhost")) == 2
    assert has(after, kill) == has(before, kill)
    ids = [event["id"] for event in after["events"]]
    assert len(ids) == len(set(ids))
    # Others may kill on this machine meanwhile; what was known stays known, and nothing else is from before.
    assert set(ids) >= {event["id"] for event in before["events"]}
    assert [event for event in after["events"] if event["time"] <= before["events"][-1]["time"]] == before["events"]


def test_a_host_that_is_not_there_is_a_row_and_the_run_fails(kill, fleet, tmp_path):
    run = play(tmp_path, "-i", fleet)
    assert run.status != 0
    assert {name: host["status"] for name, host in run.hosts.items()} == {
        "web01": "ok",
        "web02": "ok",
        "gone": "unreachable",
    }
    has(run.hosts["web01"], kill)
    has(run.hosts["web02"], kill)
    assert "gone UNREACHABLE: " in run.words
    assert "ansible -m ansible.builtin.ping 'gone'" in run.words
    assert "Connection refused" in run.hosts["gone"]["error"]
    # The table first, then the failure; and it is blamed on nobody else.
    assert run.output.index("UNREACHABLE: ") < run.output.index("gone was not read")
    assert (run.recap("gone")["failed"], run.recap("web01")["failed"], run.recap("web02")["failed"]) == (1, 0, 0)


def test_a_host_that_went_away_keeps_its_history(kill, fleet, tmp_path):
    here = play(tmp_path, "-i", fleet, "--limit", "web01")
    assert here.status == 0
    away = play(
        tmp_path,
        "-i",
        fleet,
        "--limit",
        "web01",
        "-e",
        "ansible_connection=ssh",
        "-e",
        "ansible_port=1",
        "-e",
        "ansible_host=127.0.0.1",
    )
    assert away.status != 0
    assert away.hosts["web01"]["status"] == "unreachable"
    assert away.hosts["web01"]["events"] == here.hosts["web01"]["events"]
    assert f"[{kill['pid']}]" in away.output
    back = play(tmp_path, "-i", fleet, "--limit", "web01")
    assert back.status == 0
    assert has(back.hosts["web01"], kill) == has(here.hosts["web01"], kill)


def test_a_host_without_python_is_a_row_and_the_run_fails(kill, fleet, tmp_path):
    run = play(tmp_path, "-i", fleet, "--limit", "web01,web02", "-e", "ansible_python_interpreter=/no/such/python")
    assert run.status != 0
    assert run.hosts["web01"]["status"] == run.hosts["web02"]["status"] == "failed"
    assert "/no/such/python" in run.hosts["web01"]["error"]
    assert "web01 FAILED: " in run.words


def test_a_host_whose_connection_plugin_is_missing_is_a_row(kill, tmp_path):
    """Its task fails before the action runs, so nothing is in the spool; and the report runs on it, as the first host."""
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = tmp_path / "hosts.json"
    inventory.write_text(
        json.dumps({"all": {"hosts": {"a-odd": {"ansible_connection": "no.such.one"}, "web01": here}}})
    )
    run = play(tmp_path, "-i", str(inventory))
    assert run.status != 0
    assert "a-odd MISSING: There is no evidence of this host" in run.words
    assert {name: host["status"] for name, host in run.hosts.items()} == {"a-odd": "missing", "web01": "ok"}
    assert (run.recap("a-odd")["failed"], run.recap("web01")["failed"]) == (1, 0)


def test_all_hosts_unreachable(fleet, tmp_path):
    run = play(tmp_path, "-i", fleet, "--limit", "gone")
    assert run.status != 0
    assert list(run.hosts) == ["gone"]
    assert "gone UNREACHABLE: " in run.words
    assert "0 OOM kills on 0 of 1 host; 1 host not read." in run.words


def test_limit(kill, fleet, tmp_path):
    run = play(tmp_path, "-i", fleet, "--limit", "web02")
    assert run.status == 0
    assert list(run.hosts) == ["web02"]
    assert "web01" not in run.output


def test_hosts_from_a_variable(kill, fleet, tmp_path):
    run = play(tmp_path, "-i", fleet, "-e", "oom_hosts=web01")
    assert run.status == 0
    assert list(run.hosts) == ["web01"]


def test_check_mode_reads_and_writes_nothing(kill, fleet, tmp_path):
    run = play(tmp_path, "-i", fleet, "--limit", "web01", "--check")
    assert not (tmp_path / "spool").exists()
    assert not (tmp_path / "events.json").exists()
    assert "not written in check mode" in run.output


def test_a_wrong_option_is_one_sentence(fleet, tmp_path):
    run = play(tmp_path, "-i", fleet, "--limit", "web01", "-e", "oom_evidence_since=soon")
    assert run.status != 0
    assert "since: 'soon' is not a time" in run.output
    assert "Traceback" not in run.output


def test_a_user_who_may_not_read_is_told_what_to_do(kill, tmp_path):
    """The host's Python runs as nobody; the row says what to do, and does not claim that nothing was killed."""
    if Path("/proc/sys/kernel/dmesg_restrict").read_text().strip() == "0":
        pytest.skip("kernel.dmesg_restrict is 0: everybody may read the ring buffer")
    system = shutil.which("python3", path="/usr/bin:/bin")
    if not system:
        pytest.skip("there is no Python in /usr/bin that nobody could run")
    wrapper = tmp_path / "python-of-nobody"
    drop = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups"
    wrapper.write_text(f'#!/bin/sh\nexec {drop} {system} "$@"\n')
    wrapper.chmod(0o755)
    run = play(tmp_path, "-e", f"ansible_python_interpreter={wrapper}")
    (document,) = run.documents("localhost")
    with gzip.open(document) as stream:
        coverage = json.load(stream)["coverage"]
    kmsg = next(source for source in coverage["sources"] if source["source"] == "kmsg")
    assert kmsg["available"] is False and kmsg["error"]
    assert coverage["kernel_counter"] > 0
    assert run.hosts["localhost"]["events"] == []
    assert coverage["advice"]
    for sentence in coverage["advice"]:
        assert " ".join(sentence.split()) in run.words
    assert "become" in run.words
    assert "no OOM kill in" not in run.words


def test_the_spool_is_its_owners_alone(kill, tmp_path):
    run = play(tmp_path)
    (document,) = run.documents("localhost")
    modes = [
        path.stat().st_mode & 0o777
        for path in (tmp_path / "spool", document.parent, document, tmp_path / "events.json")
    ]
    assert modes == [0o700, 0o700, 0o600, 0o600]


def test_a_file_of_the_user_is_not_overwritten(kill, tmp_path):
    (tmp_path / "events.json").write_text("mine")
    run = play(tmp_path)
    assert run.status != 0
    assert "choose another events_path" in run.words
    assert (tmp_path / "events.json").read_text() == "mine"


def test_the_module_returns_what_the_drill_did(kill, tmp_path):
    """oom_events_info on this host, under a budget too, with every option that narrows."""
    tasks = [
        {"oom.forensics.oom_events_info": {"boots": "current"}, "register": "all"},
        {"oom.forensics.oom_events_info": {"sources": ["kmsg"], "detail": "summary"}, "register": "brief"},
        {"oom.forensics.oom_events_info": {"max_result_bytes": 16384, "max_tasks": 100}, "register": "small"},
        {"oom.forensics.oom_events_info": {"until": "2001-01-01"}, "register": "nothing"},
        {"oom.forensics.oom_events_info": {"since": "+1h"}, "register": "wrong", "ignore_errors": True},
        {
            "ansible.builtin.copy": {
                "dest": str(tmp_path / "found.json"),
                "content": "{{ {'all': all, 'brief': brief, 'small': small, 'nothing': nothing, 'wrong': wrong} | to_json }}",
            }
        },
    ]
    book = tmp_path / "book.json"
    here = {"ansible_python_interpreter": sys.executable}
    book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "vars": here, "tasks": tasks}]))
    assert play(tmp_path, playbook=book).status == 0
    found = json.loads((tmp_path / "found.json").read_text())
    has(found["all"], kill)
    event = has(found["brief"], kill)
    assert [event[key] for key in ("tasks", "cgroup_stat", "host_memory")] == [None, None, None]
    small = {key: found["small"][key] for key in ("events", "coverage")}
    assert len(json.dumps(small)) <= 16384
    assert small["coverage"]["events_returned"] == len(small["events"])
    assert found["nothing"]["events"] == []
    assert found["wrong"]["failed"] and found["wrong"]["msg"].startswith("since: '+1h' is not a time")
