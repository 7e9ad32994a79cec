# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# The hosts: a file, a folder or a list of them; this machine by default.
INVENTORY ?= inventory/local.yml
# More arguments: of ansible-playbook, pytest, ansible-test, the benchmarks.
EXTRA ?=
# ansible-core of `make sanity`: 2.16, 2.19 or newest.
CORE ?= 2.19
# Scenarios of `make lab`, in extensions/molecule. Two are played at a time; the bursts of `tracing` come last, when a
# machine is least busy.
SCENARIO ?= kernel policy default tracing
# Time that `make fuzz` may take.
SECONDS_TO_FUZZ ?= 60

# Ansible refuses to start in a locale that is not UTF-8 or, as ssh may forward one, not installed.
ifneq ($(shell locale charmap 2>/dev/null),UTF-8)
export LC_ALL := C.UTF-8
endif

BIN := .venv/bin
# Also where ANSIBLE_CONFIG names a configuration of the user's own, the collection is this checkout.
PLAY = ANSIBLE_COLLECTIONS_PATH="$(CURDIR)/.collections:$${ANSIBLE_COLLECTIONS_PATH:-$$HOME/.ansible/collections:/usr/share/ansible/collections}" \
	$(BIN)/ansible-playbook $(INVENTORY:%=-i %)

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "%-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: collect
collect: .venv/made ## Collect the OOM kills of INVENTORY (this machine by default) and show them
	$(PLAY) oom.forensics.collect_oom $(EXTRA)

.PHONY: audit
audit: .venv/made ## Audit the memory settings and the kills of INVENTORY (this machine by default)
	$(PLAY) oom.forensics.audit_memory $(EXTRA)

.PHONY: drill
drill: .venv/made ## Make one safe, real OOM kill on INVENTORY and say which logs show it
	$(PLAY) oom.forensics.drill_oom $(EXTRA)

.PHONY: test
test: ## Run lint, sanity, unit, cores and system
	$(MAKE) --no-print-directory --jobs=2 lint sanity unit cores
	$(MAKE) --no-print-directory system

.PHONY: lint
lint: .venv/made-dev ## Check style, types and YAML: ruff, mypy, yamllint, ansible-lint, antsibull-changelog
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/ansible-lint --offline --strict
	$(BIN)/antsibull-changelog lint

.PHONY: format
format: .venv/made-dev ## Let ruff rewrite what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: sanity
sanity: .venv/made ## Run ansible-test sanity; CORE=2.16, 2.19 (default) or newest
	$(BIN)/python tests/tools/sanity.py $(CORE) $(EXTRA)

.PHONY: unit
unit: .venv/made-dev ## Run the unit tests on the controller's and every target Python found here
	$(BIN)/python tests/tools/unit.py $(EXTRA)

.PHONY: cores
cores: .venv/made ## Run the playbooks under ansible-core 2.16, 2.19 and the newest
	$(BIN)/python tests/tools/cores.py

.PHONY: system
system: .venv/made-dev ## Run the tests that need a real host: kernel kills, journals, playbooks (root)
	PYTHONPATH=$(CURDIR)/.collections PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m pytest -q tests/system $(EXTRA)

.PHONY: lab
lab: .venv/made-lab ## Play the roles in containers and the whole walk on a real kernel; SCENARIO=kernel for one (root)
	$(BIN)/python tests/lab/machine.py install
	$(MAKE) --no-print-directory --jobs=2 $(SCENARIO:%=lab-%)

lab-%: .venv/made-lab
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/molecule test --no-command-borders --scenario-name $* $(EXTRA)$(if $(word 2,$(SCENARIO)), 2>&1 | sed --unbuffered 's/^/$*: /')

.PHONY: lab-full
lab-full: export LAB_BACKENDS ?= tracefs bpftrace libbpf bcc
lab-full: ## The same with Linux 6.12, 5.10 on cgroups v1, and every tracer
	$(MAKE) lab SCENARIO='kernel trixie policy legacy default tracing'
	LAB_SUITE=trixie $(MAKE) lab SCENARIO=policy

.PHONY: bench
bench: .venv/made-dev ## Measure speed and memory against the bars, as a table
	for each in $(sort $(wildcard benchmarks/*.py)); do PYTHONPATH=$(CURDIR)/.collections $(BIN)/python $$each $(EXTRA); done

.PHONY: fuzz
fuzz: .venv/made-fuzz ## Fuzz the parser for SECONDS_TO_FUZZ (60) seconds
	mkdir -p .cache/fuzz
	PYTHONPATH=$(CURDIR)/.collections $(BIN)/python tests/fuzz/fuzz_parser.py -max_total_time=$(SECONDS_TO_FUZZ) -artifact_prefix=.cache/fuzz/ $(EXTRA) .cache/fuzz tests/fixtures/vm-6.1/a1-docker-memcg-8m-pid1

.PHONY: build
build: .venv/made ## Build the collection's archive into build/
	$(BIN)/ansible-galaxy collection build --force --output-path build

.PHONY: clean
clean: ## Remove what these targets made, except collected evidence
	rm -rf .venv .cache .ansible .hypothesis .mypy_cache .pytest_cache .ruff_cache build tests/output

# The first Python that ansible-core 2.19 supports, then newer ones; a version manager's shim may be there and not run.
.venv/made: requirements.txt
	@python=; \
	for candidate in python3.13 python3.12 python3.11 python3.14 python3; do \
	    if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo 'No Python 3.11 or newer that can make virtual environments was found in PATH. Install one (on Debian and Ubuntu: apt-get install python3 python3-venv) and try again.' >&2; \
	    exit 1; \
	fi; \
	echo "Making .venv with $$("$$python" --version)"; \
	"$$python" -m venv --clear .venv
	$(BIN)/python -m pip install -qq --disable-pip-version-check --requirement requirements.txt
	@touch $@

.venv/made-dev: .venv/made requirements-dev.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --requirement requirements-dev.txt --constraint requirements.txt
	@touch $@

.venv/made-lab: .venv/made-dev requirements-lab.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --requirement requirements-lab.txt --constraint requirements-dev.txt --constraint requirements.txt
	@touch $@

.venv/made-fuzz: .venv/made-dev requirements-fuzz.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --requirement requirements-fuzz.txt
	@touch $@
