#!/usr/bin/python
# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
---
module: oom_events_info
short_description: List the OOM kills that a host's logs remember
version_added: 0.1.0
author:
  - oom.forensics contributors (@oom-forensics)
description:
  - Reads every log that the host still has, parses each kernel OOM report into one schema, and returns one event per
    kill,
    however many logs it was found in.
  - Says beside the events what was read, over which time, and what cannot be known, so that a host without kills can
    prove it.
  - Needs nothing but Python on the host. The journal is read with C(journalctl).
  - Reading the journal or the ring buffer may need privileges. RV(coverage.advice) says what to do where it does.
  - Names in the events were chosen by whatever ran on the host. Never use them as templates.
options:
  detail:
    description:
      - With V(summary), the long blocks of each event, RV(events[].tasks), RV(events[].cgroup_stat) and
        RV(events[].host_memory), are null.
    type: str
    choices: [summary, full]
    default: full
  workload_names:
    description:
      - Whether to ask the host's container engines for names, images and labels. No environment variable is read, and
        no daemon is started.
      - Where only O(paths) are read, which may be of another host, nobody is asked.
    type: bool
    default: true
  max_result_bytes:
    description:
      - Keep the JSON of the result within this size. The oldest events are left out first, and RV(coverage.truncated)
        says so.
      - AWX and its kin empty a result of more than 700,000 characters without a word.
    type: int
    default: 262144
extends_documentation_fragment:
  - oom.forensics._collect
  - oom.forensics._attributes
  - oom.forensics._attributes.info_module
  - oom.forensics._attributes.platform
seealso:
  - plugin: oom.forensics.parse_oom
    plugin_type: filter
    description: The same parser for text that the controller has.
  - module: oom.forensics.oom_evidence
    description: The same events into a file on the controller, for fleets.
"""

EXAMPLES = r"""
- name: List every OOM kill that the host's logs remember
  oom.forensics.oom_events_info:
  register: oom

- name: Show who died of which limit
  ansible.builtin.debug:
    msg: "{{ item.time }} {{ item.victims | map(attribute='comm') | join(', ') }} in {{ item.victim_cgroup }}"
  loop: "{{ oom.events }}"
  loop_control:
    label: "{{ item.id }}"

- name: Fail the deployment if something was killed since it began
  oom.forensics.oom_events_info:
    since: -15min
    boots: current
    detail: summary
  register: oom
  failed_when: oom.events | length > 0 or (oom.coverage.kills_unlogged or 0) > 0

- name: Parse log files that were copied to the host
  oom.forensics.oom_events_info:
    paths:
      - /srv/evidence/kern.log*
      - /srv/evidence/dmesg.txt
    max_tasks: 5
  register: oom

- name: Read on where the last run stopped
  oom.forensics.oom_events_info:
    sources: [journal]
    cursor: "{{ oom.coverage.journal_cursor }}"
  register: oom_news
"""

RETURN = r"""
events:
  description:
    - One entry per kill, in the order of time. The same keys are always there, V(null) where the logs do not tell.
    - Sizes are in bytes, times in UTC.
  type: list
  elements: dict
  returned: success
  contains:
    schema: {description: "Always V(oom.forensics/event/1).", type: str, returned: always}
    id: {description: The same for the same kill in every log and every run., type: str, returned: always}
    boot_id: {description: "Boot that the kill happened in, without dashes.", type: str, returned: always}
    machine_id: {description: Machine that logged it., type: str, returned: always}
    hostname: {description: Host name in the log., type: str, returned: always}
    kernel: {description: Kernel release., type: str, returned: always, sample: 6.1.0-18-amd64}
    time: {description: Wall time of the kill., type: str, returned: always, sample: "2026-11-22T21:50:30.898260Z"}
    time_source:
      description: >-
        What the wall time was derived from, one of V(journal), V(boot_time), V(syslog), V(printed), V(trace), or null.
      type: str
      returned: always
    time_error_seconds: {description: Bound of the error of the wall time., type: float, returned: always}
    monotonic_usec: {description: Microseconds since boot on the kernel's clock., type: int, returned: always}
    killer:
      description: >-
        Who killed, V(kernel) or a daemon that kills before the kernel does, one of V(systemd-oomd), V(earlyoom),
        V(nohang), V(oomd).
      type: str
      returned: always
    scope:
      description: >-
        Where memory ran out, one of V(memcg), V(host), V(cpuset), V(mempolicy), V(sysrq), V(userspace), V(unknown).
        V(userspace) is a kill by a daemon, which the kernel did not count.
      type: str
      returned: always
    constraint: {description: The kernel's own word for it., type: str, returned: always, sample: CONSTRAINT_MEMCG}
    outcome:
      description: One of V(killed), V(no_victim), V(already_exiting), V(panic), V(unknown).
      type: str
      returned: always
    trigger:
      description: >-
        The task whose allocation failed, which need not be the victim. C(comm pid uid gfp_mask gfp_flags order
        oom_score_adj cpuset mems_allowed nodemask).
      type: dict
      returned: always
    limit_cgroup: {description: The cgroup whose limit was hit.,
      type: str, returned: always, sample: /system.slice/web.service}
    victim_cgroup: {description: The cgroup of the victim., type: str, returned: always}
    limit_level:
      description: Whose limit it was, seen from the victim, one of V(own), V(ancestor), V(host), or null.
      type: str
      returned: always
    memory: {description: "C(usage_bytes limit_bytes failcnt) of the cgroup, limit null for none.",
      type: dict, returned: always}
    swap: {description: The same for swap in cgroups v2., type: dict, returned: always}
    memory_swap: {description: The same for memory and swap together in cgroups v1., type: dict, returned: always}
    kmem: {description: The same for kernel memory in cgroups v1., type: dict, returned: always}
    cgroup_version: {description: "V(1) or V(2), where the report tells.", type: int, returned: always}
    cgroup_stat: {description: The report's own memory.stat., type: dict, returned: always}
    host_memory:
      description: >-
        The Mem-Info block of the report. C(totals nodes zones buddy hugepages unreclaimable_slab) and the sums
        of the host.
      type: dict
      returned: always
    tasks: {description: "The task table, largest first, at most O(max_tasks) rows.",
      type: list, elements: dict, returned: always}
    tasks_total: {description: Rows of the table before the cut., type: int, returned: always}
    victims:
      description: The processes that were killed, none or more.
      type: list
      elements: dict
      returned: always
      contains:
        pid: {description: Process ID., type: int, returned: always}
        comm: {description: "Name, at most 15 bytes of whatever the process called itself.",
          type: str, returned: always}
        uid: {description: User ID., type: int, returned: always}
        total_vm_bytes: {description: Virtual size., type: int, returned: always}
        anon_rss_bytes: {description: Resident anonymous memory., type: int, returned: always}
        file_rss_bytes: {description: Resident file pages., type: int, returned: always}
        shmem_rss_bytes: {description: Resident shared memory., type: int, returned: always}
        pgtables_bytes: {description: Page tables., type: int, returned: always}
        oom_score_adj: {description: Its oom_score_adj., type: int, returned: always}
        score: {description: Badness that older kernels print., type: int, returned: always}
        role: {description: "One of V(chosen), V(child), V(group), V(sharing).", type: str, returned: always}
        cgroup: {description: Its cgroup., type: str, returned: always}
        reaped: {description: Whether the OOM reaper said that it freed the memory., type: bool, returned: always}
    kill_lines: {description: "Kill records that were logged, to compare with the kernel's counter.",
      type: int, returned: always}
    group_kill: {description: Whether C(memory.oom.group) took the whole cgroup., type: bool, returned: always}
    workload:
      description: >-
        Who the victim's cgroup belongs to. C(kind engine id name image labels compose_project compose_service pod_uid
        pod_name namespace container_name qos unit slice uid name_source). C(name_source) says where the names are
        from, one of V(engine), V(state) for its state directory, V(journal), V(cache) for an earlier run, or null
        where the path is all that is known.
      type: dict
      returned: always
    limit_workload: {description: The same for the cgroup whose limit was hit., type: dict, returned: always}
    page_size: {description: Page size that sizes were computed with., type: int, returned: always}
    completeness:
      description: "What the log lost of the report. C(complete missing suppressed_headers gaps truncated)."
      type: dict
      returned: always
    origins: {description: "Where it was read. C(source path first last).",
      type: list, elements: dict, returned: always}
    context:
      description: "What other programs logged of this kill, such as systemd. C(source time unit container_id message)."
      type: list
      elements: dict
      returned: always
    trace:
      description: >-
        What a tracer saw of the kill, live or as a service, or null. C(backend loadavg domain_pages). The pages are the
        size of the memory that ran out, not of the victim.
      type: dict
      returned: always
    raw: {description: "Text of the report, with O(raw=true).", type: str, returned: always}
    raw_sha256: {description: Digest of that text., type: str, returned: always}
    verdict: {description: Not filled by this module., type: dict, returned: always}
  sample:
    - id: 0d6a8f0a1b2c3d4e
      time: "2026-11-22T21:50:30.898260Z"
      scope: memcg
      outcome: killed
      limit_cgroup: /docker/4f1c2a
      limit_level: own
      memory: {usage_bytes: 8388608, limit_bytes: 8388608, failcnt: 1042}
      victims: [{pid: 4242, comm: python3, uid: 0, anon_rss_bytes: 7340032, role: chosen}]
coverage:
  description: What was read and what cannot be known.
  type: dict
  returned: success
  contains:
    sources:
      description: >-
        One entry per source. C(source path available first_time last_time records bytes error overrun
        missed).
      type: list
      elements: dict
      returned: always
    boot_id: {description: The running boot., type: str, returned: always}
    kernel_counter: {description: Kills since boot that the kernel counted in C(/proc/vmstat).,
      type: int, returned: always}
    kills_parsed: {description: Kills of the same boot that were found in the logs., type: int, returned: always}
    kills_unlogged: {description: The difference., type: int, returned: always}
    journal_persistent: {description: Whether the journal outlives a reboot., type: bool, returned: always}
    ring_buffer_overrun: {description: Whether the ring buffer has lost its oldest records.,
      type: bool, returned: always}
    journal_missed: {description: Kernel records that journald says it missed., type: int, returned: always}
    companions:
      description: >-
        The sources of RV(events[].context) and of kills by daemons, with the keys of RV(coverage.sources).
      type: list
      elements: dict
      returned: always
    journal_cursor: {description: Where O(cursor) may read on., type: str, returned: always}
    truncated: {description: Whether events were left out., type: bool, returned: always}
    events_total: {description: Events that were found., type: int, returned: always}
    events_returned: {description: Events that are returned., type: int, returned: always}
    advice: {description: "Sentences, what to do where something could not be read.",
      type: list, elements: str, returned: always}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.oom.forensics.plugins.module_utils._budget import fit, summarize
from ansible_collections.oom.forensics.plugins.module_utils._host import engines
from ansible_collections.oom.forensics.plugins.module_utils._host.collect import collect_events
from ansible_collections.oom.forensics.plugins.module_utils._host.run import Host
from ansible_collections.oom.forensics.plugins.module_utils._options import (
    COLLECT_SPEC,
    OptionError,
    collect_arguments,
    utf8,
)

LEAST_RESULT_BYTES = 16384  # what the coverage of a host with many log files may need


def main():
    module = AnsibleModule(
        argument_spec=dict(
            COLLECT_SPEC,
            detail={"type": "str", "choices": ["summary", "full"], "default": "full"},
            workload_names={"type": "bool", "default": True},
            max_result_bytes={"type": "int", "default": 262144},
        ),
        supports_check_mode=True,
    )
    budget = module.params["max_result_bytes"]
    if budget < LEAST_RESULT_BYTES:
        module.fail_json(msg="max_result_bytes: {0} is too small; the least is {1}.".format(budget, LEAST_RESULT_BYTES))
    try:
        arguments = collect_arguments(module.params)
    except OptionError as error:
        module.fail_json(msg=str(error))
    host = Host()
    of_host = not module.params["paths"] or module.params["sources"] != ["auto"]
    names = engines.read(host) if of_host and module.params["workload_names"] else None
    found = utf8(collect_events(host, names=names, **arguments))
    events = found["events"]
    if module.params["detail"] == "summary":
        events = [summarize(event) for event in events]
    module.exit_json(changed=False, **fit(events, found["coverage"], budget))


if __name__ == "__main__":
    main()
