# Headgate: `make` lists what there is to do.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
BIN := $(VENV)/bin
COMPILED := build/compiled
URL ?= http://127.0.0.1:8080
ARGS ?=

# Directories are listed too: deleting or renaming a module changes only its directory's time.
SOURCES := $(shell find src \( -name __pycache__ -o -name '*.egg-info' \) -prune -o \( -type f -o -type d \) -print)

.PHONY: help
help: ## list the targets
	@echo "Headgate. make <target>, where target is one of:"; echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- setting up -------------------------------------------------------------------------------------------

$(VENV)/.server: requirements/server.txt requirements/build.txt pyproject.toml
	@scripts/setup.sh server
$(VENV)/.dev: requirements/dev.txt requirements/build.txt pyproject.toml
	@scripts/setup.sh dev
$(VENV)/.bench: requirements/bench.txt requirements/build.txt pyproject.toml
	@scripts/setup.sh bench

# The script compares contents, so a touched file costs a hash and not a build.
build/compiled.stamp: $(SOURCES) setup.py $(VENV)/.server
	@$(PY) scripts/build_compiled.py

.PHONY: setup
setup: $(VENV)/.dev ## create .venv with everything development needs
	@:

.PHONY: compiled
compiled: build/compiled.stamp ## build build/compiled, the package with its hot rooms compiled
	@:

.PHONY: lock
lock: ## pin requirements/*.txt anew (UPGRADE=1: to the newest versions)
	@scripts/lock.sh

# --- running ----------------------------------------------------------------------------------------------

.PHONY: start-rate-limiter
start-rate-limiter: build/compiled.stamp ## set up if needed and serve on 127.0.0.1:8080 (ARGS="--port 9000")
	@PYTHONPATH=$(COMPILED) exec $(PY) -m headgate serve $(ARGS)

.PHONY: start-cluster
start-cluster: build/compiled.stamp ## three nodes with a real Redis and etcd on this machine (ARGS="--nodes 5")
	@PYTHONPATH=$(COMPILED) exec $(PY) -m scripts.start_cluster $(ARGS)

.PHONY: deploy-policies
deploy-policies: $(VENV)/.server ## apply examples/policies.yaml to the running service (URL=http://host:port)
	@$(PY) -m headgate policy apply examples/policies.yaml --url $(URL) $(ARGS)

.PHONY: load-test
load-test: build/compiled.stamp ## drive the running service and print throughput and latency (URL=, ARGS=)
	@PYTHONPATH=$(COMPILED) exec $(PY) -m headgate bench http --url $(URL) $(ARGS)

.PHONY: bench
bench: $(VENV)/.bench build/compiled.stamp ## reprint the figures of docs/figures.md (ARGS="--quick", or which ones)
	@scripts/fetch_test_servers.sh || true
	@PYTHONPATH=$(COMPILED) exec $(PY) -m benchmarks $(ARGS)

.PHONY: lab
lab: $(VENV)/.dev ## run the overload experiments in virtual time; fails when one misses a claim (ARGS=--write)
	@$(PY) -m headgate lab run all --jobs $$(nproc) --out build/lab $(ARGS)

.PHONY: simulate
simulate: $(VENV)/.dev ## shared limits under made-up faults, in virtual time (ARGS="--seeds 100000 --from 0")
	@$(PY) -m tests.simulation $(ARGS)

.PHONY: lab-live
lab-live: $(VENV)/.dev $(VENV)/.bench build/compiled.stamp ## the same against real processes; leave the machine alone (ARGS=--write)
	@PYTHONPATH=$(COMPILED) $(PY) -m headgate lab run all --live --out build/lab $(ARGS)

.PHONY: demo-distributed
demo-distributed: $(VENV)/.dev build/compiled.stamp ## one limit over three real nodes, with a picture at the end
	@PYTHONPATH=$(COMPILED) exec $(PY) -m demos.distributed $(ARGS)

.PHONY: demo-failure
demo-failure: $(VENV)/.dev build/compiled.stamp ## three real nodes lose their store and get it back, with a picture
	@PYTHONPATH=$(COMPILED) exec $(PY) -m demos.failure $(ARGS)

# --- checking ---------------------------------------------------------------------------------------------

.PHONY: test-servers
test-servers:
	@scripts/fetch_test_servers.sh || [ "$${CI:-}" != true ]

.PHONY: test
test: $(VENV)/.dev test-servers ## run the tests and doctests on the plain source
	@$(PY) -m pytest $(ARGS)

.PHONY: test-compiled
test-compiled: $(VENV)/.dev test-servers ## run the tests on the compiled build
	@$(PY) scripts/build_compiled.py --require
	@PYTHONPATH=$(COMPILED) HEADGATE_EXPECT_COMPILED=1 $(PY) -m pytest tests $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: types
types: $(VENV)/.dev ## mypy --strict on the package and on its public surface as users type it
	@$(BIN)/mypy

.PHONY: imports
imports: $(VENV)/.dev ## the import rule of ARCHITECTURE.md
	@$(BIN)/lint-imports --no-cache

.PHONY: check
check: ## everything CI does
	@.ci/run

.PHONY: clean
clean: ## remove the environment, the builds and the caches
	@rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	  .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
