# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """The options of C(module_utils/_cgroup_options.py:CGROUP_SPEC). Private to this collection."""

    DOCUMENTATION = r"""
options:
  patterns:
    description:
      - Return only cgroups that match one of these shell patterns.
      - A pattern with a slash, such as V(/system.slice/*), is matched with the whole path. C(*) matches slashes too.
      - A pattern without one, such as V(docker-*.scope), is matched with the last part of the path.
      - Effective limits count every ancestor, whether it is returned or not. This holds for every option here.
    type: list
    elements: str
    default: []
  kinds:
    description:
      - Return only cgroups of these kinds. The default, an empty list, means all of them.
      - V(machine) is a virtual machine, V(job) one of a batch system, V(scope) any scope that is neither a container
        nor a V(session), and V(cgroup) one that nobody's naming scheme explains.
    type: list
    elements: str
    choices: [container, pod, machine, job, unit, session, scope, slice, root, cgroup]
    default: []
  min_usage:
    description:
      - Leave out cgroups that use less memory than this, in bytes or as V(64M). Units are powers of 1024.
      - From one byte on, cgroups whose usage the kernel does not tell are left out too.
    type: str
    default: "0"
  with_stat:
    description:
      - Keys of C(memory.stat) to return. An empty list means none, and saves the kernel work on hosts with many
        cgroups.
      - A key that the kernel lacks is null.
      - Keys are named as in cgroups v2. In cgroups v1 V(anon) is C(total_rss), V(file) is C(total_cache), C(file_*) and
        V(anon_thp) are their counterparts, and any other key is the one that begins with C(total_), where there is one,
        because v2 always counts what is below a cgroup too.
    type: list
    elements: str
    default: [anon, file, kernel, kernel_stack, pagetables, percpu, shmem, slab, sock]
  with_pressure:
    description:
      - Whether to return the pressure stall information of each cgroup.
    type: bool
    default: false
  root:
    description:
      - Read this folder of the host instead of the host's own hierarchies, such as a copy of C(/sys/fs/cgroup) of
        another host.
      - It is the folder of one hierarchy, of either version, or the one that the hierarchies of cgroups v1 are in.
    type: path
"""
