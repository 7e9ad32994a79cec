# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bcc_tools on this host, through its own package manager: check, install, again, remove, as before. Needs root."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.oom.forensics.plugins.module_utils import _bcc_record
from ansible_collections.oom.forensics.plugins.module_utils._host import bpf, run

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
RECORD = Path(_bcc_record.RECORD)
LOCK = "/var/lib/dpkg/lock-frontend"
PROGRAMS = {"libbpf": ("oomkill-libbpf", "bpf-oomkill", "oomkill"), "bpftrace": ("bpftrace",)}


def why_not():
    if os.geteuid() != 0:
        return "installing packages needs root"
    if not shutil.which("apt-get"):
        return "the host's package manager is not apt, whose answers these tests know"
    if not bpf.read_rights(run.Host()).may_trace:
        return "this container may not trace, so nothing would be installed"
    if not os.path.exists("/sys/kernel/btf/vmlinux"):
        return "the kernel has no BTF, so the tracers that are installed here would not work"
    return None


WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


def ansible(*arguments, check=False):
    """Run the module as ansible does and return its result."""
    argv = [str(BIN / "ansible"), "localhost", "-i", "localhost,", "-c", "local", "-m", "oom.forensics.bcc_tools"]
    argv += ["-e", "ansible_python_interpreter=/usr/bin/python3", "-a", " ".join(arguments), "--diff"]
    paths = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"), "PYTHONPATH": str(ROOT / ".collections")}
    callback = {"ANSIBLE_LOAD_CALLBACK_PLUGINS": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.oneline"}
    environment = dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_NOCOLOR="1", **paths, **callback)
    done = subprocess.run(
        argv + (["--check"] if check else []), env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert "=> {" in done.stdout, done.stdout + done.stderr
    return json.loads(done.stdout[done.stdout.index("=> {") + 3 :]) | {"failed": done.returncode != 0}


def packages():
    """An independent reader: every package that dpkg has, with version and state."""
    return subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${Version} ${Status}\n"], capture_output=True, text=True, check=True
    ).stdout


def missing_backend():
    """A tracer that is not installed here, so that it can come and go."""
    for backend, programs in PROGRAMS.items():
        if not any(shutil.which(program) for program in programs):
            return backend
    return None


@pytest.fixture
def as_before():
    assert not RECORD.exists(), "another run left its record; run the module with state=absent"
    before = packages()
    yield before
    if RECORD.exists():
        ansible("state=absent")


def test_comes_and_goes(as_before):
    backend = missing_backend()
    if backend is None:
        result = ansible("backend=libbpf")
        assert (result["outcome"], result["changed"]) == ("ready", False) and packages() == as_before
        return
    # Lists that are there make the prediction exact.
    subprocess.run(["apt-get", "update", "-qq"], check=True, timeout=300)
    predicted = ansible(f"backend={backend}", check=True)
    assert predicted["changed"] and packages() == as_before and not RECORD.exists()
    done = ansible(f"backend={backend}")
    assert done["changed"] and done["outcome"] == "btf_makes_headers_needless", done
    assert done["tool"] == shutil.which(os.path.basename(done["tool"]))
    assert done["packages_installed"] == predicted["packages_installed"] != []
    came = sorted(set(packages().splitlines()) - set(as_before.splitlines()))
    assert [line.split()[:2] for line in came] == sorted(
        [row["name"], row["version"]] for row in done["packages_installed"]
    )
    again = ansible(f"backend={backend}")
    assert not again["changed"] and again["outcome"] == "ready" and "diff" not in again
    would_go = ansible("state=absent", check=True)
    gone = ansible("state=absent")
    assert gone["changed"] and gone["outcome"] == "removed" and gone["packages_removed"] == would_go["packages_removed"]
    assert packages() == as_before and not RECORD.parent.exists()
    assert not ansible("state=absent")["changed"]


def test_headers_of_this_kernel_are_judged():
    """The running kernel is this machine's own, and the answer agrees with what lies on the disk."""
    result = ansible("backend=bcc headers=never", check=True)
    release = os.uname().release
    build = f"/lib/modules/{release}/build"
    assert result["kernel"] == release and result["btf"] and result["container"] == bpf.container(run.Host())
    assert result["headers_complete"] == os.path.exists(build + "/include/generated/autoconf.h")
    if not result["headers_complete"] and not result["kheaders"]:
        assert result["failed"] and result["outcome"] == "headers_forbidden" and release in result["msg"]


HOLDER = """
import fcntl, sys
stream = open(sys.argv[1], "a")
fcntl.lockf(stream, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_locked_package_manager(as_before):
    backend = missing_backend()
    if backend is None:
        assert ansible("backend=libbpf")["outcome"] == "ready"
        return
    child = subprocess.Popen([sys.executable, "-c", HOLDER, LOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"held\n"
        result = ansible(f"backend={backend}", "lock_timeout=1", "update_cache=false")
    finally:
        child.communicate()
    assert result["failed"] and result["outcome"] == "package_manager_locked" and f"pid {child.pid}" in result["msg"]
    assert packages() == as_before and not RECORD.exists()


def test_wrong_options():
    for arguments, words in (("backend=ebpf", "value of backend must be one of"), ("lock_timeout=-1", "is negative")):
        result = ansible(arguments)
        assert result["failed"] and words in result["msg"]
