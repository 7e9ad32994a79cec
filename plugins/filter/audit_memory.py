# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: audit_memory
short_description: Audit evidence of hosts
version_added: 0.1.0
author:
  - oom.forensics contributors (@oom-forensics)
description:
  - Evaluates the audit rules on evidence documents and returns what they find, one host after another and the worst
    first.
  - C(docs/audit_rules.md) lists the shipped rules and says how rules of your own are written.
  - A filter runs each time its expression is evaluated. For more than one use, keep the result with
    M(ansible.builtin.set_fact).
  - Names in the findings were chosen by whatever ran on the host. Never use them as templates.
requirements:
  - jmespath >= 1.0 on the controller
positional: _input
options:
  _input:
    description:
      - One evidence document, or a list of them. M(oom.forensics.oom_evidence) writes them to its spool as gzip JSON.
    type: raw
    required: true
  rules:
    description:
      - Changes to the shipped rules, as the path of a YAML file or as what such a file holds. See
        M(oom.forensics.memory_audit).
    type: raw
  min_severity:
    description:
      - Leave out rules that are less severe.
    type: str
    choices: [info, low, medium, high, critical]
    default: info
  reference_time:
    description:
      - The time of the audit, which says how old the evidence is. Nothing else depends on it.
      - ISO 8601, such as V(2026-11-22T21:50:30Z), or seconds since the epoch. Without it, the current time.
    type: raw
seealso:
  - module: oom.forensics.memory_audit
    description: Audits the whole spool, one host at a time, and prints and writes the findings.
"""

EXAMPLES = r"""
- name: Find containers without a limit in a document
  ansible.builtin.debug:
    msg: >-
      {{ evidence | oom.forensics.audit_memory
         | selectattr('rule', 'eq', 'container-without-limit') | map(attribute='subject') | list }}

- name: Stop where something severe is found
  ansible.builtin.assert:
    that: evidence | oom.forensics.audit_memory(min_severity='high', rules=my_rules) | length == 0
  vars:
    my_rules:
      disable: [kills-unlogged]
"""

RETURN = r"""
_value:
  description:
    - One entry per finding.
    - C(rule), C(severity), C(title), C(why) and C(what) are the rule's own.
    - C(host) is the name in the inventory, C(subject) the readable name of what offends, C(path) its cgroup or null,
      C(message) a sentence about it, C(facts) the values behind the sentence.
    - A rule that could not be evaluated is an entry of the rule V(rule-failed).
  type: list
  elements: dict
"""

import math
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.oom.forensics.plugins.module_utils._options import OptionError, parse_time, utf8
from ansible_collections.oom.forensics.plugins.plugin_utils import _audit, _plain, _rules

FQCN = "oom.forensics.audit_memory"
SCHEMA = "oom.forensics/evidence/1"


def audit_memory(
    data: Any, rules: Any = None, min_severity: str = "info", reference_time: Any = None
) -> list[dict[str, Any]]:
    """The findings in one document or in several. Raises AnsibleFilterError for wrong arguments and rules."""
    if min_severity not in _rules.SEVERITIES:
        known = ", ".join(_rules.SEVERITIES)
        raise AnsibleFilterError(f"{FQCN}: min_severity {min_severity!r} is none of {known}.")
    audited_at = _moment(reference_time)
    try:
        checked = _rules.load(_plain.plain(rules))
        documents = _documents(_plain.plain(data))
    except _rules.RulesError as error:
        raise AnsibleFilterError(f"{FQCN}: {error}") from None  # Ansible prints the cause as well
    except TypeError as error:
        raise AnsibleFilterError(f"{FQCN}: {error}.") from None
    found = [_audit.audit(document, checked, audited_at, min_severity).findings for document in documents]
    return utf8([finding for findings in found for finding in findings])


def _documents(data: Any) -> list[dict[str, Any]]:
    documents = data if isinstance(data, list) else [data]
    for document in documents:
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise TypeError(f"the input must be a document of the schema {SCHEMA}, or a list of them")
    return documents


def _moment(value: Any) -> str:
    moment = _seconds(value)
    try:
        return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    except (ValueError, OverflowError, OSError) as error:
        raise AnsibleFilterError(f"{FQCN}: reference_time {value} is no time that a calendar has.") from error


def _seconds(value: Any) -> float:
    if value is None:
        return time.time()
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if not isinstance(value, str):
        raise AnsibleFilterError(f"{FQCN}: reference_time must be ISO 8601 text or seconds since the epoch.")
    try:
        moment = parse_time("reference_time", value, time.time())
    except OptionError as error:
        raise AnsibleFilterError(f"{FQCN}: {error}") from error
    return time.time() if moment is None else moment


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"audit_memory": audit_memory}
