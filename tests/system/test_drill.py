# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real drills on this kernel. Needs root, a memory hierarchy and a /dev/kmsg that may be read."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import (
    drill,
    drill_files,
    drill_plan,
    hierarchies,
    run,
)
from kernel import kernel_counter, ring_buffer, why_not

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PREFIX = "oom-forensics-drill-"

WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


def left_cgroups():
    hierarchy = hierarchies.find(run.Host()).memory
    return [str(path) for path in Path(hierarchy.folder).rglob(PREFIX + "*") if not path.name.endswith(".slice")]


def runs(folder):
    """Whether a process of /proc is more than a zombie that waits for its parent."""
    try:
        return (folder / "stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def left_processes():
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "comm").read_text().strip() == drill.COMM and runs(folder):
                found.append(folder.name)
        except OSError:
            continue
    return found


def nothing_left(seconds=20):
    """Whether no drill is left. Somebody else's may run at the same time; it ends soon."""
    deadline = time.monotonic() + seconds
    while left_cgroups() or left_processes():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def environment():
    paths = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"), "PYTHONPATH": str(ROOT / ".collections")}
    return dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_NOCOLOR="1", **paths)


def ansible(arguments):
    """Run the module as ansible does and return its result."""
    argv = [str(BIN / "ansible"), "localhost", "-i", "localhost,", "-c", "local", "-m", "oom.forensics.oom_drill"]
    argv += ["-e", f"ansible_python_interpreter={sys.executable}", "-a", arguments]
    callback = {"ANSIBLE_LOAD_CALLBACK_PLUGINS": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.oneline"}
    done = subprocess.run(argv, env=environment() | callback, capture_output=True, text=True, timeout=180, check=False)
    assert "=>" in done.stdout, done.stdout + done.stderr
    return json.loads(done.stdout[done.stdout.index("{") :]) | {"failed": done.returncode != 0}


def reported(make):
    """Make a kill whose report the kernel printed: of more than 10 kills in 5 seconds, others' too, it drops some."""
    for _attempt in range(4):
        result = make()
        if f"oom_memcg={result['cgroup']}," in ring_buffer():
            break
        time.sleep(5.5)
    return result


def test_drill():
    before = kernel_counter()
    result = reported(lambda: ansible("limit=16M"))
    assert result["changed"] and result["killed"] and result["cleaned_up"], result
    assert (result["signal"], result["exit_status"], result["timed_out"]) == (signal.SIGKILL, None, False)
    assert result["limit_bytes"] == 16 << 20
    assert kernel_counter() > before
    counters = [result[key]["kernel_counter"] for key in ("counters_before", "counters_after")]
    # The host's counter may count others meanwhile, the cgroup's counts this kill alone; with systemd it is gone.
    assert counters[0] >= before and counters[1] >= counters[0] + 1
    assert result["counters_before"]["oom_kill"] == 0 and result["counters_after"]["oom_kill"] in (1, None)
    # An independent reader: the kernel's own words.
    text = ring_buffer()
    assert f"Killed process {result['pid']} ({drill.COMM})" in text
    assert f"oom_memcg={result['cgroup']},task_memcg={result['cgroup']},task={drill.COMM},pid={result['pid']}" in text
    rows = {row["source"]: row for row in result["found"]}
    print("\n" + result["msg"], *result["found"], sep="\n")
    assert list(rows) == ["journal", "kmsg", "files"]
    assert rows["kmsg"]["found"] and rows["kmsg"]["path"] == "/dev/kmsg" and rows["kmsg"]["milliseconds"] < 5000
    event = result["event"]
    assert event["id"] == rows["kmsg"]["event_id"]
    assert [(victim["pid"], victim["comm"]) for victim in event["victims"]] == [(result["pid"], drill.COMM)]
    assert event["limit_cgroup"] == event["victim_cgroup"] == result["cgroup"]
    assert event["memory"]["limit_bytes"] == 16 << 20
    assert nothing_left()


def test_one_source_and_bytes():
    result = reported(lambda: ansible(f"limit={32 << 20} sources=kmsg"))
    assert [(row["source"], row["found"]) for row in result["found"]] == [("kmsg", True)]
    assert result["event"]["memory"]["limit_bytes"] == result["limit_bytes"] == 32 << 20


@pytest.mark.parametrize(
    "arguments,words",
    [
        ("limit=8M", "limit: 8388608 bytes is out of range"),
        ("limit=1G", "limit: 1073741824 bytes is out of range"),
        ("limit=much", "limit: 'much' is not a size"),
        ("timeout=600", "timeout: 600 seconds is out of range"),
        ("sources=dmesg", "value of sources must be one or more of"),
    ],
)
def test_refusals(arguments, words):
    result = ansible(arguments)
    assert result["failed"] and not result["changed"] and words in result["msg"]
    assert nothing_left()


def test_check_mode_skips():
    argv = [str(BIN / "ansible-playbook"), "-i", "localhost,", "--check", str(ROOT / "playbooks/drill_oom.yml")]
    argv += ["-e", f"ansible_connection=local ansible_python_interpreter={sys.executable}"]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and "skipped=" in done.stdout, done.stdout + done.stderr


def test_playbook_shows_one_line():
    argv = [str(BIN / "ansible-playbook"), "-i", "localhost,", "oom.forensics.drill_oom"]
    argv += ["-e", f"ansible_connection=local ansible_python_interpreter={sys.executable}"]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "was killed; found in" in done.stdout and "kmsg after" in done.stdout


DRIVER = textwrap.dedent(
    """
    import json, sys
    from ansible_collections.oom.forensics.plugins.module_utils._host import drill, drill_plan, run
    plan = drill_plan.plan(run.Host(), drill_plan.LEAST_LIMIT, 60)
    print(plan.name, flush=True)
    try:
        print(json.dumps(drill.kill(plan)))
    except drill_plan.DrillError as error:
        print(error)
        sys.exit(1)
    """
)


def frozen_drill():
    """A drill whose process is stopped before it allocates, and that process's pid."""
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], env=environment(), stdout=subprocess.PIPE, text=True)
    folder = Path(hierarchies.find(run.Host()).memory.folder) / driver.stdout.readline().strip()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            pid = int((folder / "cgroup.procs").read_text())
            os.kill(pid, signal.SIGSTOP)
            return driver, folder, pid
        except (OSError, ValueError):
            time.sleep(0.0005)
    raise AssertionError("the process of the drill never came into its cgroup")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_interrupted_drill_leaves_nothing(number):
    driver, folder, pid = frozen_drill()
    assert folder.is_dir()
    driver.send_signal(number)
    out = driver.communicate(timeout=30)[0]
    assert driver.returncode == 1 and f"interrupted by signal {int(number)}; run it again." in out
    assert not folder.exists() and not runs(Path(f"/proc/{pid}"))
    assert nothing_left()


def test_impatient_signals_do_not_stop_the_cleaning_up():
    driver, folder, pid = frozen_drill()
    while driver.poll() is None:
        driver.send_signal(signal.SIGTERM)
    driver.stdout.close()
    assert not folder.exists() and not runs(Path(f"/proc/{pid}"))


def test_process_does_not_survive_the_module():
    """SIGKILL leaves the module no time to clean up; its process sees that and leaves, it does not allocate."""
    driver, folder, pid = frozen_drill()
    driver.kill()
    driver.wait()
    os.kill(pid, signal.SIGCONT)
    deadline = time.monotonic() + 10
    while folder.exists() and time.monotonic() < deadline:
        try:
            folder.rmdir()
        except OSError:
            time.sleep(0.01)
    driver.stdout.close()
    assert not folder.exists() and not runs(Path(f"/proc/{pid}"))
    assert folder.name not in ring_buffer()


# What systemd-run --scope does as far as the kernel can tell: a cgroup, the limit, exec in the same process.
FAKE_SYSTEMD_RUN = """#!/bin/sh
set -eu
for word; do
    shift
    case $word in
        --) break ;;
        *.scope) unit=$word ;;
        MemoryLimit=*|MemoryMax=*) limit=${word#*=} ;;
    esac
done
mkdir -p MOUNT/oom-forensics-drill-system.slice
mkdir "MOUNT/oom-forensics-drill-system.slice/$unit"
echo "$limit" > "MOUNT/oom-forensics-drill-system.slice/$unit/LIMIT_FILE"
echo $$ > "MOUNT/oom-forensics-drill-system.slice/$unit/cgroup.procs"
exec "$@"
"""


@pytest.fixture
def fake_systemd(tmp_path, monkeypatch):
    hierarchy = hierarchies.find(run.Host()).memory
    mount = hierarchy.folder
    text = FAKE_SYSTEMD_RUN.replace("MOUNT", mount).replace("LIMIT_FILE", drill_files.FILES[hierarchy.version].limit)
    for name, script in (("systemd-run", text), ("systemctl", "#!/bin/sh\n")):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    yield
    slice_folder = Path(mount) / "oom-forensics-drill-system.slice"
    if slice_folder.exists():
        slice_folder.rmdir()


def test_scope_of_systemd(fake_systemd):
    result = reported(
        lambda: drill.kill(drill_plan.plan(run.Host(), drill_plan.LEAST_LIMIT, 30)._replace(systemd=True))
    )
    cgroup = result["cgroup"]
    assert cgroup.startswith("/oom-forensics-drill-system.slice/" + PREFIX) and cgroup.endswith(".scope")
    assert result["killed"] and result["cleaned_up"]
    assert f"oom_memcg={cgroup},task_memcg={cgroup}" in ring_buffer()


def test_a_scope_without_its_limit_is_never_filled(fake_systemd, tmp_path):
    script = tmp_path / "systemd-run"
    script.write_text("".join(line for line in script.read_text().splitlines(True) if '"$limit"' not in line))
    plan = drill_plan.plan(run.Host(), drill_plan.LEAST_LIMIT, 30)._replace(systemd=True)
    with pytest.raises(drill_plan.DrillError, match="was stopped before it allocated"):
        drill.kill(plan)
    assert plan.name not in ring_buffer()
    assert not [path for path in left_cgroups() if plan.name in path]


def test_systemd_run_that_fails(tmp_path, monkeypatch):
    (tmp_path / "systemd-run").write_text("#!/bin/sh\necho 'Failed to connect to bus: No such file.' >&2\nexit 1\n")
    (tmp_path / "systemd-run").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    plan = drill_plan.plan(run.Host(), drill_plan.LEAST_LIMIT, 30)._replace(systemd=True)
    with pytest.raises(drill_plan.DrillError, match="did not get ready: Failed to connect to bus: No such file.$"):
        drill.kill(plan)
