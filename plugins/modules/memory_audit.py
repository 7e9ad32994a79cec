#!/usr/bin/python
# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
---
module: memory_audit
short_description: Audit the evidence that was collected
version_added: 0.1.0
author:
  - oom.forensics contributors (@oom-forensics)
description:
  - Evaluates rules on the newest evidence of each host in the spool, one host at a time, prints one table of findings,
    and writes them as a JSON document and as JUnit XML.
  - A rule is data, a JMESPath expression over the evidence that returns what offends. The collection ships a set of
    them, C(docs/audit_rules.md) lists them and says how rules of your own are written.
  - A host that could not be reached or read is a finding, and so is a rule that fails on a document. A rule whose input
    the evidence lacks is counted as not evaluated.
  - This is an action plugin. It runs on the controller and never connects, so that it audits what is known of
    unreachable hosts as well. Run it once per play.
  - Names of containers are shown with control characters spelled out, because a container may be called anything.
requirements:
  - jmespath >= 1.0 on the controller
options:
  spool:
    description:
      - Directory on the controller that M(oom.forensics.oom_evidence) wrote to.
      - A relative path begins where C(ansible-playbook) was started.
    type: path
    default: oom-evidence/spool
  hosts:
    description:
      - Hosts to audit, by their names in the inventory. Without it, every host in the spool.
    type: list
    elements: str
  unwritten:
    description:
      - Hosts whose evidence was read just now and not written, as M(oom.forensics.oom_evidence) does in check mode.
      - They are not audited, because what the spool has of them is older or nothing. The table says how many they are.
    type: list
    elements: str
    default: []
  rules:
    description:
      - Changes to the shipped rules, as the path of a YAML file or as what such a file holds.
      - A list of rules, or a mapping of V(rules) and V(disable), the latter a list of ids of rules to leave out.
      - A rule with the C(id) of a shipped one changes the keys that it has, such as C(severity).
      - Any other is a new rule and has C(id), C(severity), C(title), C(offenders), C(why), C(what), and optionally
        C(message) and C(needs).
      - All rules are checked before any evidence is read. A wrong expression fails the task with the rule, the
        expression and the position.
    type: raw
  rules_only:
    description:
      - Whether to check the rules and do nothing else. Run it before the hosts are asked.
    type: bool
    default: false
  min_severity:
    description:
      - Leave out rules that are less severe.
    type: str
    choices: [info, low, medium, high, critical]
    default: info
  fail_on:
    description:
      - Fail if there is a finding of this severity or a worse one, after everything was printed and written. Without
        it, findings never fail the task.
    type: str
    choices: [info, low, medium, high, critical]
  findings_path:
    description:
      - The JSON document to write, of the schema V(oom.forensics/findings/1). By default C(findings.json) beside the
        spool.
      - It is replaced atomically. A file of that name that is no such document is left alone, and the task fails.
    type: path
  junit_path:
    description:
      - The JUnit XML file to write, with a test suite per host and a test case per rule. By default C(junit.xml) beside
        the spool. It is replaced likewise.
      - Findings of the severity V(info) are output of their test case and not its failure.
    type: path
  max_rows:
    description:
      - Print at most this many findings, the worst ones. The rest is counted.
    type: int
    default: 50
extends_documentation_fragment:
  - oom.forensics._attributes
  - oom.forensics._attributes.controller
attributes:
  check_mode:
    support: full
    details:
      - Prints the table and fails as always, but writes nothing.
  diff_mode:
    support: N/A
    details:
      - No host is changed.
  idempotent:
    support: full
    details:
      - No host is changed.
seealso:
  - module: oom.forensics.oom_evidence
    description: Fills the spool.
  - plugin: oom.forensics.audit_memory
    plugin_type: filter
    description: Evaluates the same rules on evidence that a play already has.
"""

EXAMPLES = r"""
- name: Audit what was collected
  oom.forensics.memory_audit:
    spool: /var/lib/oom/spool
    hosts: "{{ ansible_play_hosts_all }}"
  run_once: true

- name: Fail a pipeline for anything severe, with rules of one's own
  oom.forensics.memory_audit:
    spool: /var/lib/oom/spool
    rules: /etc/oom/rules.yml
    junit_path: reports/memory.xml
    fail_on: high
  run_once: true

- name: Check the rules before any host is asked
  oom.forensics.memory_audit:
    rules_only: true
    rules:
      disable: [memory-high-unset]
      rules:
        - id: peak-near-limit
          severity: medium
        - id: database-limit-small
          severity: high
          title: Database has less than 1 GiB
          offenders: >-
            cgroups[?workload.compose_service == 'db' && memory_max < `1073741824`]
            .{subject: label(workload), path: path, memory_max: memory_max}
          needs: [cgroups]
          message: "only {memory_max:size}"
          why: The database was measured to need 1 GiB at night.
          what: Raise mem_limit in the compose file.
  run_once: true
"""

RETURN = r"""
rules_total:
  description: Rules that were checked, after those that are disabled were left out.
  type: int
  returned: success
  sample: 37
findings_path:
  description: The JSON document. Null in check mode.
  type: str
  returned: when O(rules_only=false)
  sample: /var/lib/oom/findings.json
junit_path:
  description: The JUnit XML file. Null in check mode.
  type: str
  returned: when O(rules_only=false)
  sample: /var/lib/oom/junit.xml
spool:
  description: Where the evidence lies.
  type: str
  returned: when O(rules_only=false)
  sample: /var/lib/oom/spool
hosts_total:
  description: Hosts that were audited.
  type: int
  returned: when O(rules_only=false)
  sample: 120
hosts_with_findings:
  description: Hosts with at least one finding.
  type: int
  returned: when O(rules_only=false)
  sample: 17
hosts_unread:
  description: Hosts that were unreachable, failed, or have no readable evidence. Each is a finding as well.
  type: int
  returned: when O(rules_only=false)
  sample: 1
hosts_skipped:
  description: Hosts of O(unwritten), which were not audited.
  type: int
  returned: when O(rules_only=false)
  sample: 0
findings_total:
  description: Findings of all hosts.
  type: int
  returned: when O(rules_only=false)
  sample: 42
severities:
  description: How many findings of each severity.
  type: dict
  returned: when O(rules_only=false)
  sample: {critical: 0, high: 3, medium: 12, low: 20, info: 7}
not_evaluated:
  description: Rules that were not evaluated for want of evidence, and on how many hosts.
  type: dict
  returned: when O(rules_only=false)
  sample: {usage-near-limit: 2}
"""
