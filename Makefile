# Everything that a newcomer needs; `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# The first Python that works: a version manager's stand-in can be on the PATH for one that is not installed.
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for version in 3.13 3.12 3.11 3; do \
  python$$version -c "$(USABLE)" 2>/dev/null && command -v python$$version && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

COMPILED := .compiled
ON_COMPILED := PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(COMPILED):$(CURDIR)

.PHONY: help run demo test check nightly chaos bench compiled format lock tools

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(STAMP) ## start broker, ingest, processors, projections; prints the URLs and "ready"; Ctrl-C stops all
	@$(BIN)/python -m deploy.local run

demo: $(STAMP) ## the same with a simulated call centre posting to it
	@$(BIN)/python -m deploy.local demo $(DEMO)

test: $(STAMP) tools ## all tests, on a real Kafka, a real PostgreSQL and a real browser
	@$(BIN)/python -m pytest $(PYTEST)

check: $(STAMP) ## format, lint, types, import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_import_rules.py

nightly: $(STAMP) ## the long proofs of pairing: SEEDS (500000) call centres against the model, then kills and zombies
	@$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),500000) --first $(or $(FIRST),0)
	@$(BIN)/python -m tests.kills --kills 200 --zombies 100 --minutes 60

chaos: $(STAMP) tools ## faults of every kind on a whole system, and a verdict; CHAOS="--faults 300 --brokers 3" for more
	@$(BIN)/python -m tests.chaos $(CHAOS)

bench: $(STAMP) ## the benchmarks; prints a table of ratios
	@if command -v cc >/dev/null; then $(MAKE) --no-print-directory compiled; else rm -rf $(COMPILED); fi
	@$(ON_COMPILED) $(BIN)/python -m bench

compiled: $(COMPILED)/built ## the services as the image has them, their inner loops compiled: needs a C compiler

$(COMPILED)/built: $(STAMP) deploy/compiled.py $(shell find events ingest processors projections conformance -name '*.py')
	@$(BIN)/python -m deploy.compiled $(COMPILED)
	@touch $@

format: $(STAMP) ## format the code, and write what is generated from it (two pages of docs/, dashboards)
	@$(BIN)/python -m deploy.prometheus
	@$(BIN)/python -m deploy.grafana
	@$(BIN)/python -m deploy.settings
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: $(STAMP) ## pin the newest dependencies that fit pyproject.toml, with hashes
	@$(BIN)/python -m pip install --quiet uv
	@for file in "requirements.txt" "requirements-dev.txt --group dev --extra tracing"; do \
	  $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	    --no-emit-index-url --no-header pyproject.toml --output-file $$file || exit 1; done

tools: $(STAMP)
	@bash deploy/local/tools
	@$(BIN)/python -m deploy.local jars

$(STAMP): requirements-dev.txt
	@if [ -z "$(PYTHON)" ]; then \
	  echo "Python 3.11 or later with venv is needed: install it (Debian: apt-get install python3 python3-venv)."; exit 1; fi
	@echo "installing Python packages into $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $(STAMP)
