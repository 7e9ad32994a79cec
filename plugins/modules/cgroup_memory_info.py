#!/usr/bin/python
# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
---
module: cgroup_memory_info
short_description: List memory settings and usage of every cgroup
version_added: 0.1.0
author:
  - oom.forensics contributors (@oom-forensics)
description:
  - Reads what C(cat memory.current memory.high memory.max memory.oom.group) shows, for every container, pod, unit and
    other cgroup of a host, and returns cgroups v1, hybrid hosts and cgroups v2 in one schema.
  - Says which limit is hit first, which may be an ancestor's, how much of it is used and was used at most.
  - Names the workload of each cgroup, with the help of the container engines of the host.
  - Needs nothing but Python on the host, and no privileges where the kernel's files are readable for everybody, as they
    are by default. RV(coverage.advice) says what to do where they are not.
  - A cgroup that is removed or made while it is read is left out and counted.
  - Names in the result were chosen by whatever ran on the host. Never use them as templates.
options:
  sort:
    description:
      - Order of the cgroups. V(path) is the order of the tree, parents before their children.
      - Any other key puts the largest first, and null last.
    type: str
    choices: [path, memory_current, memory_peak, utilisation, peak_utilisation]
    default: path
  max_result_bytes:
    description:
      - Keep the JSON of the result within this size. One cgroup takes about 2 KiB.
      - The cgroups that come last in the order of O(sort) are left out first; with O(sort=path), those that use least
        memory. RV(truncated) says so.
      - AWX and its kin empty a result of more than 700,000 characters without a word.
    type: int
    default: 262144
extends_documentation_fragment:
  - oom.forensics._cgroups
  - oom.forensics._attributes
  - oom.forensics._attributes.info_module
  - oom.forensics._attributes.platform
seealso:
  - module: oom.forensics.oom_events_info
    description: What was killed at these limits.
  - module: oom.forensics.oom_evidence
    description: Both into a file on the controller, for fleets.
"""

EXAMPLES = r"""
- name: List the memory settings of every container
  oom.forensics.cgroup_memory_info:
    kinds: [container]
  register: memory

- name: Show how near each one is to the limit that it hits first
  ansible.builtin.debug:
    msg: >-
      {{ item.workload.name or item.path }} uses {{ item.memory_current }} of {{ item.memory_effective_max }} bytes, the
      limit of {{ item.memory_effective_max_path }}
  loop: "{{ memory.cgroups }}"
  loop_control:
    label: "{{ item.path }}"

- name: Find the ten cgroups that came nearest to their limit
  oom.forensics.cgroup_memory_info:
    sort: peak_utilisation
    with_stat: []
  register: memory

- name: Show them
  ansible.builtin.debug:
    msg: "{{ memory.cgroups[:10] | map(attribute='path') }}"

- name: Say what large services use their memory for, and how long they wait for it
  oom.forensics.cgroup_memory_info:
    patterns:
      - /system.slice/*.service
    min_usage: 64M
    with_stat: [anon, file, shmem, slab]
    with_pressure: true

- name: Read a tree that was copied from another host
  oom.forensics.cgroup_memory_info:
    root: /srv/evidence/web1/sys/fs/cgroup
"""

RETURN = r"""
cgroups:
  description:
    - One entry per cgroup. The same keys are always there, null where the kernel does not tell.
    - Sizes are in bytes. A limit that is not set is null.
  type: list
  elements: dict
  returned: success
  contains:
    path: {description: "Path below the hierarchy's mount, as the kernel logs it.",
      type: str, returned: always, sample: /system.slice/web.service}
    depth: {description: Ancestors of the cgroup., type: int, returned: always}
    kind: {description: What it is. See O(kinds)., type: str, returned: always, sample: unit}
    workload:
      description: >-
        Who it belongs to. C(kind engine id name image labels compose_project compose_service pod_uid pod_name namespace
        container_name qos unit slice uid name_source), the latter saying where the name comes from.
      type: dict
      returned: always
    cgroup_version: {description: "V(1) or V(2), of the memory controller.", type: int, returned: always}
    memory_current:
      description: Memory in use, by the cgroup and those below it. Null for the root of cgroups v2.
      type: int
      returned: always
    memory_peak: {description: "The most that was ever in use, or since somebody reset it.",
      type: int, returned: always}
    memory_min: {description: Memory that is never reclaimed (v2)., type: int, returned: always}
    memory_low: {description: Memory that is reclaimed last (v2)., type: int, returned: always}
    memory_high: {description: Where throttling begins (v2)., type: int, returned: always}
    memory_max: {description: The cgroup's own limit., type: int, returned: always}
    memory_effective_max:
      description:
        - The smallest limit of the cgroup and its ancestors, the one that it cannot pass.
        - An ancestor's limit is shared with everything else below that ancestor.
      type: int
      returned: always
    memory_effective_max_path:
      description: Whose limit that is. Null also where a v1 container sees only that there is a smaller one above it.
      type: str
      returned: always
    utilisation: {description: "RV(cgroups[].memory_current) as a part of RV(cgroups[].memory_effective_max).",
      type: float, returned: always, sample: 0.0625}
    peak_utilisation:
      description:
        - RV(cgroups[].memory_peak) as a part of RV(cgroups[].memory_effective_max).
        - Says how near the cgroup came to its limit where the limit is its own. Below an ancestor's limit the siblings
          used memory too, at times of their own.
      type: float
      returned: always
    memory_swap_current: {description: Swap in use (v2)., type: int, returned: always}
    memory_swap_peak: {description: The most swap that was ever in use (v2)., type: int, returned: always}
    memory_swap_high: {description: Where throttling begins (v2)., type: int, returned: always}
    memory_swap_max: {description: The limit of swap (v2)., type: int, returned: always}
    memory_zswap_current: {description: Compressed swap in memory (v2)., type: int, returned: always}
    memory_zswap_max: {description: Its limit (v2)., type: int, returned: always}
    memory_zswap_writeback: {description: Whether it may be written to disk (v2)., type: bool, returned: always}
    oom_group: {description: "Whether a kill takes all of the cgroup, C(memory.oom.group) (v2).",
      type: bool, returned: always}
    events:
      description:
        - How often the kernel counted C(low high max oom oom_kill oom_group_kill), and more where it counts more.
        - Events of the cgroups below are counted too since kernel 5.2. In cgroups v1 there is only C(oom_kill), of the
          cgroup's own processes.
      type: dict
      returned: always
    events_local: {description: "The same without the cgroups below, since kernel 5.3.", type: dict, returned: always}
    swap_events: {description: "C(high max fail) of swap (v2).", type: dict, returned: always}
    pressure:
      description:
        - Time that C(some) or all (C(full)) processes waited for memory. C(avg10 avg60 avg300), percent of so many
          seconds, and C(total_usec), microseconds in all. With O(with_pressure=true).
        - On a hybrid host it comes from the cgroup of the same path in the v2 hierarchy.
      type: dict
      returned: always
    stat: {description: The keys of O(with_stat)., type: dict, returned: always}
    process_count: {description: Processes that are in the cgroup itself., type: int, returned: always}
    soft_limit: {description: What reclaim aims at (v1)., type: int, returned: always}
    memsw: {description: "C(current peak max failcnt) of memory and swap together (v1).", type: dict, returned: always}
    kmem: {description: "C(current peak max failcnt) of kernel memory (v1).", type: dict, returned: always}
    failcnt: {description: How often the limit was hit (v1)., type: int, returned: always}
    oom_kill_disable: {description: Whether processes wait at the limit instead of being killed (v1).,
      type: bool, returned: always}
    under_oom: {description: Whether they do so now (v1)., type: bool, returned: always}
    swappiness: {description: Of this cgroup (v1)., type: int, returned: always}
    hugetlb: {description: "C(page_size current max) of each size of huge pages.",
      type: list, elements: dict, returned: always}
    pids_current: {description: Tasks in the cgroup and below it., type: int, returned: always}
    pids_max: {description: Their limit., type: int, returned: always}
  sample:
    - path: /system.slice/docker-4f1c2a.scope
      kind: container
      memory_current: 393216
      memory_max: 8388608
      memory_effective_max: 8388608
      memory_effective_max_path: /system.slice/docker-4f1c2a.scope
      utilisation: 0.0469
      oom_group: false
host:
  description:
    - Memory and swap of the host that was asked, the settings that decide who is killed and whether it is logged, its
      userspace OOM killers.
  type: dict
  returned: success
coverage:
  description: What was read and what cannot be known.
  type: dict
  returned: success
  contains:
    mode: {description: "V(v1), V(v2), V(hybrid) (memory in v1, others in v2), or null.", type: str, returned: always}
    mount: {description: Where the hierarchy of the memory controller is., type: str, returned: always}
    namespaced: {description: "Whether only a container's part of the hierarchy can be seen. Null for O(root).",
      type: bool, returned: always}
    cgroups_total: {description: Cgroups that were found., type: int, returned: always}
    cgroups_returned: {description: Cgroups that are returned., type: int, returned: always}
    vanished: {description: Cgroups that were removed or made while they were read., type: int, returned: always}
    unreadable: {description: Files and folders that this user may not read., type: int, returned: always}
    swap_accounting: {description: Whether the kernel counts and limits swap per cgroup., type: bool, returned: always}
    memory_delegated: {description: Whether every container has the memory controller., type: bool, returned: always}
    undelegated: {description: "Where it is missing, some of the cgroups above such containers.",
      type: list, elements: str, returned: always}
    psi: {description: Whether the kernel measures pressure., type: bool, returned: always}
    kernel_files_missing: {description: "Files of newer kernels, whose keys are null here.",
      type: list, elements: str, returned: always, sample: [memory.peak]}
    engines: {description: "One entry per container engine that was asked for names. Empty for O(root).",
      type: list, elements: dict, returned: always}
    error: {description: "Why nothing could be read, or null.", type: str, returned: always}
    advice: {description: "Sentences, what to do where something could not be read.",
      type: list, elements: str, returned: always}
cgroups_total:
  description: Cgroups that were found.
  type: int
  returned: success
  sample: 112
cgroups_returned:
  description: Cgroups that are returned.
  type: int
  returned: success
  sample: 3
truncated:
  description: Whether cgroups were left out to keep the result within O(max_result_bytes).
  type: bool
  returned: success
  sample: false
"""

import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.oom.forensics.plugins.module_utils._cgroup_budget import SORTS, largest
from ansible_collections.oom.forensics.plugins.module_utils._cgroup_options import CGROUP_SPEC, cgroup_arguments
from ansible_collections.oom.forensics.plugins.module_utils._host import cgroupfs, engines, naming
from ansible_collections.oom.forensics.plugins.module_utils._host.facts import host_block
from ansible_collections.oom.forensics.plugins.module_utils._host.run import Host
from ansible_collections.oom.forensics.plugins.module_utils._options import OptionError, utf8

LEAST_RESULT_BYTES = 16384  # what the host block and the coverage may need


def report(host, arguments, sort, max_bytes):
    """What the module returns: the cgroups that fit, and what is known about them all."""
    names = engines.read(host) if arguments["root"] is None else None
    cgroups, coverage = cgroupfs.read(host, name=naming.namer(names) if names else None, **arguments)
    coverage["engines"] = names.sources if names else []
    result = {"host": utf8(host_block(host)), "cgroups": [], "cgroups_returned": 0, "truncated": False}
    kept, truncated = largest(map(utf8, cgroups), sort, max_bytes)
    # Only now is the coverage complete, and its size known. 20: the digits of two numbers that become longer.
    result.update(coverage=utf8(coverage), cgroups_total=coverage["cgroups_total"])
    kept, cut = largest(kept, sort, max_bytes - len(json.dumps(result)) - 20)
    result["coverage"]["cgroups_returned"] = len(kept)
    result.update(cgroups=kept, cgroups_returned=len(kept), truncated=truncated or cut)
    return result


def main():
    module = AnsibleModule(
        argument_spec=dict(
            CGROUP_SPEC,
            sort={"type": "str", "choices": list(SORTS), "default": "path"},
            max_result_bytes={"type": "int", "default": 262144},
        ),
        supports_check_mode=True,
    )
    budget = module.params["max_result_bytes"]
    if budget < LEAST_RESULT_BYTES:
        module.fail_json(msg="max_result_bytes: {0} is too small; the least is {1}.".format(budget, LEAST_RESULT_BYTES))
    try:
        arguments = cgroup_arguments(module.params)
    except OptionError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **report(Host(), arguments, module.params["sort"], budget))


if __name__ == "__main__":
    main()
