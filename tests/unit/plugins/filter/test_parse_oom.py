# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter: every kind of input, every wrong one, and a run inside a real template."""

import json
import os
import subprocess
import sys

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.oom.forensics.plugins.filter.parse_oom import parse_oom

COLLECTIONS = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../../../.collections"))
LINES = [
    "[  100.000001] Memory cgroup out of memory: Killed process 4242 (web) total-vm:8192kB, anon-rss:7168kB, "
    "file-rss:64kB, shmem-rss:0kB, UID:1000 pgtables:48kB oom_score_adj:0",
    "[  101.000000] unrelated: a line",
]
TEXT = "\n".join(LINES) + "\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        TEXT.encode(),
        bytearray(TEXT.encode()),
        LINES,
        tuple(LINES),
        [line.encode() for line in LINES],
        [line + "\n" for line in LINES],
    ],
)
def test_every_kind_of_input_gives_the_same_event(data):
    (event,) = parse_oom(data)
    assert event["victims"][0]["pid"] == 4242
    assert event["victims"][0]["comm"] == "web"
    assert event["victims"][0]["anon_rss_bytes"] == 7168 * 1024
    assert event["id"] == parse_oom(TEXT)[0]["id"]


def test_a_kill_that_is_there_twice_is_one_event():
    assert len(parse_oom(TEXT + TEXT)) == 1


@pytest.mark.parametrize("data", ["", b"", [], "nothing of interest\n"])
def test_nothing_in_nothing_out(data):
    assert parse_oom(data) == []


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (None, "null"),
        (5, "int"),
        (True, "bool"),
        ({"a": 1}, "dict"),
        (1.5, "float"),
        (["x", 5], "int"),
        ([None], "null"),
    ],
)
def test_wrong_input_names_the_filter_and_the_type(data, named):
    with pytest.raises(AnsibleFilterError) as refused:
        parse_oom(data)
    assert "oom.forensics.parse_oom" in str(refused.value)
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_tasks": "5"}, "max_tasks"),
        ({"max_tasks": -1}, "max_tasks"),
        ({"max_tasks": True}, "max_tasks"),
        ({"raw": "yes"}, "raw"),
        ({"page_size": 5000}, "page_size"),
        ({"page_size": "4096"}, "page_size"),
        ({"reference_time": "soon"}, "reference_time"),
        ({"reference_time": []}, "reference_time"),
        ({"reference_time": float("nan")}, "reference_time"),
    ],
)
def test_wrong_options_name_the_filter_and_the_option(options, named):
    with pytest.raises(AnsibleFilterError) as refused:
        parse_oom(TEXT, **options)
    assert "oom.forensics.parse_oom" in str(refused.value)
    assert named in str(refused.value)


def test_raw_is_returned_only_if_asked_for():
    assert parse_oom(TEXT)[0]["raw"] is None
    assert "Killed process 4242" in parse_oom(TEXT, raw=True)[0]["raw"]


@pytest.mark.parametrize("reference", ["2026-03-01T00:00:00Z", 1772323200, 1772323200.0])
def test_the_reference_time_gives_a_syslog_line_its_year(reference):
    (event,) = parse_oom("Dec 24 18:00:00 web kernel: " + LINES[0], reference_time=reference)
    assert event["time"].startswith("2025-12-24T18:00:00")


@pytest.mark.parametrize("comm", [b"b\xffse", "b\udcffse".encode("utf-8", "surrogatepass"), "b\udcffse", "x\ud800y"])
def test_bytes_that_are_no_text_give_strict_utf8(comm):
    line = LINES[0].replace("web", "%s")
    data = line.encode() % comm if isinstance(comm, bytes) else line % comm
    json.dumps(parse_oom(data), ensure_ascii=False).encode("utf-8")


def test_in_a_template_with_tagged_values(tmp_path):
    """Play variables are subclasses of str, list and int since ansible-core 2.19; undefined input fails, not skips."""
    (tmp_path / "ansible.cfg").write_text("")
    playbook = tmp_path / "play.yml"
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"lines": LINES, "text": TEXT, "most": 3, "number": 7},
        "tasks": [
            {
                "ansible.builtin.assert": {
                    "that": [
                        "(lines | oom.forensics.parse_oom(max_tasks=most)).0.victims.0.pid == 4242",
                        "(text | oom.forensics.parse_oom) == (lines | oom.forensics.parse_oom)",
                    ]
                }
            },
            {"ansible.builtin.debug": {"msg": "{{ number | oom.forensics.parse_oom }}"}},
        ],
    }
    playbook.write_text(json.dumps([play]))
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", str(playbook)],
        env=dict(
            os.environ,
            ANSIBLE_COLLECTIONS_PATH=COLLECTIONS,
            ANSIBLE_CONFIG=str(tmp_path / "ansible.cfg"),
            ANSIBLE_NOCOLOR="1",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert "All assertions passed" in done.stdout, done.stdout
    assert "oom.forensics.parse_oom: the input must be text, bytes or a list of lines, not int" in done.stdout.replace(
        "\n", " "
    )
