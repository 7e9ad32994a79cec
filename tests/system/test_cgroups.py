# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cgroups of this very host: what the kernel's own files say, while cgroups come and go, as root and as nobody."""

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import cgroup_memory, cgroupfs, hierarchies, run

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
NOBODY = 65534
MIB = 1 << 20

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make cgroups")

# Joins the cgroups, uses 24 MiB, says so, and waits for its end of the pipe to be closed.
USER = textwrap.dedent(
    """
    import os, sys
    for folder in sys.argv[1:]:
        with open(folder + '/cgroup.procs', 'w') as stream:
            stream.write(str(os.getpid()))
    memory = bytearray(24 << 20)
    for offset in range(0, len(memory), 4096):
        memory[offset] = 1
    print('ready', flush=True)
    sys.stdin.read()
    """
)
READ = textwrap.dedent(
    """
    import json, sys
    sys.path.insert(0, sys.argv[1])
    from ansible_collections.oom.forensics.plugins.module_utils._host import cgroupfs, run
    cgroups, coverage = cgroupfs.read(run.Host(), with_stat=['anon'], **json.loads(sys.argv[2]))
    print(json.dumps([list(cgroups), coverage]))
    """
)


class Scratch:
    """A cgroup of our own in every hierarchy that is read, and what was made below it."""

    def __init__(self, trees, name):
        self.trees, self.path, self._made, self._users = trees, "/" + name, [], []
        self.make("")

    def folder(self, path="", tree=None):
        return Path((tree or self.trees.memory).folder + self.path + path)

    def make(self, path, limit=None):
        for tree in (self.trees.memory, *self.trees.beside):
            folder = self.folder(path, tree)
            folder.mkdir()
            self._made.append(folder)
            if tree.version == 2:
                offered = set((folder / "cgroup.controllers").read_text().split()) & {"memory", "pids", "hugetlb"}
                (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in offered))
        if limit is not None:
            self.kernel(path, cgroup_memory.LIMIT[self.trees.memory.version]).write_text(str(limit))

    def kernel(self, path, name):
        return self.folder(path) / name

    def use(self, path):
        folders = [str(self.folder(path, tree)) for tree in (self.trees.memory, *self.trees.beside)]
        argv = [sys.executable, "-I", "-S", "-c", USER, *folders]
        self._users.append(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert self._users[-1].stdout.readline() == "ready\n"
        return self._users[-1].pid

    def remove(self):
        for user in self._users:
            user.communicate()
        for folder in reversed(self._made):
            deadline = time.monotonic() + 10
            while folder.is_dir():
                try:
                    folder.rmdir()
                except OSError:
                    assert time.monotonic() < deadline, folder
                    time.sleep(0.05)


@pytest.fixture
def scratch():
    made = Scratch(hierarchies.find(run.Host()), f"oom-forensics-read-{os.getpid()}-{time.monotonic_ns()}")
    try:
        yield made
    finally:
        made.remove()


def read(**arguments):
    cgroups, coverage = cgroupfs.read(run.Host(), **arguments)
    return {cgroup["path"]: cgroup for cgroup in cgroups}, coverage


def below(scratch, **arguments):
    """The scratch cgroups by their path below the scratch one, and the coverage."""
    found, coverage = read(patterns=[scratch.path + "*"], **arguments)
    return {path[len(scratch.path) :]: cgroup for path, cgroup in found.items()}, coverage


def test_limits_and_usage_are_the_kernels(scratch):
    scratch.make("/outer", 48 * MIB)
    scratch.make("/outer/inner", 96 * MIB)
    scratch.make("/outer/inner/leaf, with a blank", 64 * MIB)
    scratch.make("/free")
    pid = scratch.use("/outer/inner/leaf, with a blank")
    found, coverage = below(scratch, with_stat=["anon", "hierarchical_memory_limit"], with_pressure=True)
    limits = {path: (cgroup["memory_max"], cgroup["memory_effective_max"]) for path, cgroup in found.items()}
    assert limits == {
        "": (None, None),
        "/free": (None, None),
        "/outer": (48 * MIB, 48 * MIB),
        "/outer/inner": (96 * MIB, 48 * MIB),
        "/outer/inner/leaf, with a blank": (64 * MIB, 48 * MIB),
    }
    leaf = found["/outer/inner/leaf, with a blank"]
    assert leaf["memory_effective_max_path"] == scratch.path + "/outer"
    assert 24 * MIB <= leaf["memory_current"] <= leaf["memory_peak"] <= 48 * MIB
    assert leaf["utilisation"] == round(leaf["memory_current"] / (48 * MIB), 4)
    assert leaf["stat"]["anon"] >= 24 * MIB
    assert leaf["process_count"] == 1
    assert scratch.kernel("/outer/inner/leaf, with a blank", "cgroup.procs").read_text().split() == [str(pid)]
    if scratch.trees.memory.version == 1:
        assert all(
            cgroup["memory_effective_max"] in (cgroup["stat"]["hierarchical_memory_limit"], None)
            for cgroup in found.values()
        )
    assert (coverage["vanished"], coverage["unreadable"], coverage["error"]) == (0, 0, None)


def test_tasks_are_counted_in_their_own_hierarchy(scratch):
    scratch.make("/many")
    tree = next(
        (tree for tree in scratch.trees.beside if Path(scratch.folder("/many", tree), "pids.max").exists()), None
    )
    if tree is None and not scratch.kernel("/many", "pids.max").exists():
        pytest.skip("this host has no pids controller")
    (scratch.folder("/many", tree) / "pids.max").write_text("77")
    scratch.use("/many")
    many = below(scratch)[0]["/many"]
    assert (many["pids_current"], many["pids_max"]) == (1, 77)


def test_huge_pages_that_the_host_can_limit(scratch):
    scratch.make("/huge")
    places = [scratch.folder("/huge", tree) for tree in (scratch.trees.memory, *scratch.trees.beside)]
    sizes = {path.name.split(".")[1] for place in places for path in place.glob("hugetlb.*")}
    rows = below(scratch)[0]["/huge"]["hugetlb"]
    assert len(rows) == len(sizes)
    assert all((row["current"], row["max"]) == (0, None) for row in rows)


def test_every_cgroup_of_the_host_is_listed(scratch):
    for number in range(30):
        scratch.make(f"/{number}")
    found, coverage = read()
    top = scratch.trees.memory.folder
    listed = {folder[len(top) :] or "/" for folder, _folders, _files in os.walk(scratch.folder())}
    assert len(listed) == 31
    assert listed <= set(found)
    assert coverage["cgroups_total"] == coverage["cgroups_returned"] == len(found)
    assert set(next(iter(found.values()))) == set(cgroup_memory.KEYS)


def test_cgroups_that_come_and_go_are_counted_and_nothing_raises(scratch):
    for number in range(20):
        scratch.make(f"/{number}")
    folder = scratch.folder()
    storm_code = textwrap.dedent(
        """
        import os, sys
        while os.getppid() == int(sys.argv[2]):
            for number in range(60):
                os.mkdir(sys.argv[1] + '/storm%d' % number)
            for number in range(60):
                os.rmdir(sys.argv[1] + '/storm%d' % number)
        """
    )
    # A process: a thread of this one would wait for its turn while the reader reads.
    storm = subprocess.Popen([sys.executable, "-I", "-S", "-c", storm_code, str(folder), str(os.getpid())])
    try:
        vanished = seen = rounds = 0
        deadline = time.monotonic() + 60
        while (vanished < 50 or seen < 50) and time.monotonic() < deadline:
            found, coverage = below(scratch, with_stat=["anon"])
            assert {f"/{number}" for number in range(20)} <= set(found)
            assert all(cgroup["memory_current"] is not None for cgroup in found.values())
            assert (coverage["unreadable"], coverage["error"]) == (0, None)
            vanished += coverage["vanished"]
            seen += sum(path.startswith("/storm") for path in found)
            rounds += 1
        print(f"\n{rounds} rounds: {seen} storm cgroups read, {vanished} vanished meanwhile")
        assert vanished >= 50
        assert seen >= 50
    finally:
        storm.kill()
        storm.wait()
        for left in folder.glob("storm*"):
            left.rmdir()


def as_nobody(folder, **arguments):
    """What nobody reads, with a copy of the code that nobody may read."""
    place = folder / "ansible_collections/oom/forensics/plugins"
    place.mkdir(parents=True)
    subprocess.run(["cp", "-r", str(ROOT / "plugins/module_utils"), str(place)], check=True)
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
    done = subprocess.run(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        + [python_for_all(), "-B", "-c", READ, str(folder), json.dumps(arguments)],
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cgroups, coverage = json.loads(done.stdout)
    return {cgroup["path"]: cgroup for cgroup in cgroups}, coverage


def python_for_all():
    """A Python that every user may run: this one may be in somebody's home."""
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        probe = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", candidate, "-c", ""]
        if subprocess.run(probe, cwd="/", capture_output=True, check=False).returncode == 0:
            return candidate
    return pytest.skip("no Python here can be run by an unprivileged user")


@pytest.fixture
def open_folder():
    """A folder that every user may enter; pytest's own are root's alone."""
    folder = Path(f"/tmp/oom-forensics-{os.getpid()}-{time.monotonic_ns()}")
    folder.mkdir(mode=0o755)
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_nobody_reads_what_root_reads(scratch, open_folder):
    scratch.make("/outer", 48 * MIB)
    scratch.make("/outer/inner")
    scratch.use("/outer/inner")
    found, coverage = as_nobody(open_folder, patterns=[scratch.path + "*"])
    expected = below(scratch, with_stat=["anon"])[0]
    assert {path[len(scratch.path) :] for path in found} == {"", "/outer", "/outer/inner"}
    inner = found[scratch.path + "/outer/inner"]
    still = ("memory_effective_max", "memory_effective_max_path", "process_count", "pids_current", "memory_max")
    assert [inner[key] for key in still] == [expected["/outer/inner"][key] for key in still]
    assert inner["memory_current"] >= 24 * MIB
    assert (coverage["unreadable"], coverage["advice"]) == (0, [])


def test_what_nobody_may_not_read_is_null_and_counted(open_folder):
    tree = open_folder / "tree"
    for path, name, text in (
        ("", "cgroup.controllers", "memory\n"),
        ("a", "memory.current", "7\n"),
        ("a", "memory.max", "9\n"),
        ("b/c", "memory.current", "8\n"),
    ):
        (tree / path).mkdir(parents=True, exist_ok=True)
        (tree / path / name).write_text(text)
    (tree / "a/memory.max").chmod(0o600)
    (tree / "b").chmod(0o700)
    code = open_folder / "code"
    code.mkdir()
    found, coverage = as_nobody(code, root=str(tree))
    assert (found["/a"]["memory_current"], found["/a"]["memory_max"]) == (7, None)
    assert sorted(found) == ["/", "/a"]
    assert coverage["unreadable"] == 2
    assert "a/memory.max: permission denied" in coverage["advice"][0]
    assert "become: true" in coverage["advice"][0]


def ansible(*arguments, folder):
    (folder / "ansible.cfg").write_text("[defaults]\ninterpreter_python = auto_silent\n")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PYTHONPATH"))}
    known = {
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
    }
    argv = [str(BIN / "ansible"), "localhost", "-m", "oom.forensics.cgroup_memory_info", *arguments]
    done = subprocess.run(
        argv, cwd=folder, env=environment | known, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout + done.stderr, done.stdout


def answer(output):
    return json.loads(output[output.index("{") :])


def test_the_module_as_a_user_runs_it(scratch, tmp_path):
    scratch.make("/outer", 48 * MIB)
    scratch.make("/outer/inner")
    scratch.use("/outer/inner")
    options = {"patterns": [scratch.path + "/*"], "min_usage": "16M", "with_stat": ["anon"], "sort": "utilisation"}
    status, text, output = ansible("-C", "-a", json.dumps(options), folder=tmp_path)
    assert status == 0, text
    result = answer(output)
    assert [cgroup["path"] for cgroup in result["cgroups"]] == [scratch.path + "/outer", scratch.path + "/outer/inner"]
    assert {cgroup["memory_effective_max_path"] for cgroup in result["cgroups"]} == {scratch.path + "/outer"}
    assert result["cgroups_returned"] == result["coverage"]["cgroups_returned"] == 2
    assert result["cgroups_total"] >= 4
    assert (result["changed"], result["truncated"]) == (False, False)
    assert result["host"]["memory_total_bytes"] > 0
    assert result["coverage"]["error"] is None


def test_a_result_that_fits(scratch, tmp_path):
    for number in range(60):
        scratch.make(f"/{number}")
    scratch.use("/7")
    status, text, output = ansible(
        "-a", json.dumps({"patterns": [scratch.path + "/*"], "max_result_bytes": 16384}), folder=tmp_path
    )
    assert status == 0, text
    result = answer(output)
    assert result["truncated"] is True
    assert 0 < result["cgroups_returned"] == len(result["cgroups"]) < 60
    assert scratch.path + "/7" in [cgroup["path"] for cgroup in result["cgroups"]]
    result.pop("changed")
    assert len(json.dumps(result)) <= 16384


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_usage": "much"}, "min_usage: 'much' is not a size; write bytes or a size such as 64M."),
        ({"max_result_bytes": 5}, "max_result_bytes: 5 is too small; the least is 16384."),
        ({"with_stat": ["a b"]}, "with_stat: 'a b' is not a key of memory.stat; write keys such as anon."),
    ],
)
def test_options_that_are_refused(options, message, tmp_path):
    status, text, output = ansible("-a", json.dumps(options), folder=tmp_path)
    assert status == 2, text
    assert message in text
