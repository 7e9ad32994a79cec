# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees of cgroups as one text file each: `path <tab> file <tab> content`, with backslash escapes; a path alone is empty.

`python3 cgroup_trees.py FOLDER` prints a folder that was copied from a cgroup hierarchy in that form.
"""

import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.normpath(os.path.join(HERE, "..", "..", "..", "..", "fixtures", "cgroups"))
WANTED = re.compile(
    r"memory\.(?!numa_stat|reclaim|force_empty|pressure_level|move_charge|kmem\.(?:tcp|slabinfo)).*|pids\.(?:current|max)"
    r"|hugetlb\.[^.]+\.(?:current|max|usage_in_bytes|limit_in_bytes)|cgroup\.(?:procs|controllers|subtree_control)"
)
ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"))


def escape(text):
    for plain, escaped in ESCAPES:
        text = text.replace(plain, escaped)
    return text


def unescape(text):
    return re.sub(r"\\(.)", lambda match: {"t": "\t", "n": "\n"}.get(match.group(1), match.group(1)), text)


def expand(manifest, folder):
    """Make the tree of a manifest's text below `folder`; returns the folder's path."""
    for line in manifest.splitlines():
        if not line or line.startswith("#"):
            continue
        path, _tab, rest = line.partition("\t")
        # Bytes: a Python before 3.7 in the C locale has no other way to say a name that is not ASCII.
        place = os.path.join(os.fsencode(str(folder)), unescape(path).strip("/").encode("utf-8"))
        if not os.path.isdir(place):
            os.makedirs(place)
        name, tab, content = rest.partition("\t")
        if tab:
            with open(os.path.join(place, unescape(name).encode("utf-8")), "wb") as stream:
                stream.write(unescape(content).encode("utf-8"))
    return str(folder)


def fixture(name, folder):
    """Make the tree of one of the manifests in tests/fixtures/cgroups."""
    with open(os.path.join(FIXTURES, name + ".tree"), encoding="utf-8") as stream:
        return expand(stream.read(), folder)


def pack(top):
    """The manifest lines of a folder, with the files that anyone may want of it."""
    for folder, folders, names in os.walk(top):
        folders.sort()
        path = escape(folder[len(top) :] or "/")
        wanted = [name for name in sorted(names) if WANTED.fullmatch(name)]
        if not wanted:
            yield path
        for name in wanted:
            try:
                with open(os.path.join(folder, name), "rb") as stream:
                    content = stream.read().decode("utf-8", "replace")
            except OSError:
                continue  # write-only, or a threaded cgroup's
            yield "\t".join((path, escape(name), escape(content)))


if __name__ == "__main__":
    for each in pack(sys.argv[1].rstrip("/")):
        print(each)
