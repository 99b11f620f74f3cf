# `make demo` and `make test` do all their set-up themselves; the rest is for working on the project.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TIERS := $(BIN)/python -m hack.tiers
CLUSTER ?= testbed
N ?= 1000
SEED ?= 1
MINUTES ?= 20

ifeq ($(shell command -v $(PYTHON)),)
$(error PYTHON is $(PYTHON), which is not installed)
endif
# Named after the interpreter: another PYTHON makes the environment anew.
READY := $(VENV)/ready-$(shell $(PYTHON) -V 2>&1 | tr -d ' ')

.PHONY: help setup demo demo-down test quick unit component gateway memory files chaos soak fuzz e2e release-check coverage bench bench-gateway check format manifests chart

help: ## list the commands
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## virtual environment from pinned, hashed requirements

$(READY): requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	test "$$($(BIN)/python -V 2>&1)" = "$$($(PYTHON) -V)" || $(PYTHON) -m venv --clear $(VENV) || { echo "apt-get install python3-venv, then again"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: setup ## a real model behind a real router in a real cluster, from nothing
	$(BIN)/python -m hack.demo up --cluster $(CLUSTER)

demo-down: setup ## take the demo and its cluster away
	$(BIN)/python -m hack.demo down --cluster $(CLUSTER)

test: setup ## every tier, side by side
	$(TIERS) --cluster $(CLUSTER)

quick: setup ## before each commit: check, unit, golden, and the fast part of chart and gateway
	$(TIERS) --quick

unit: setup ## the pure code
	$(TIERS) unit

component: setup ## the operator against a real control plane
	$(TIERS) component

gateway: setup ## the gateway against a real llama-server, and real clients
	$(TIERS) gateway clients

memory: setup ## estimates against llama.cpp itself
	$(TIERS) memory

files: setup ## inspect and fetch against a small Hub
	$(TIERS) files

chaos: setup ## faults between operator and API server, outages, a vanished node: minutes
	$(TIERS) chaos --options "-s --chaos-seed $(SEED)"

soak: setup ## the same for half an hour with 200 models, and half an hour of faults for the gateway
	$(BIN)/pytest -s tests/chaos --chaos-seed $(SEED) --soak --timeout 0
	$(BIN)/pytest -s tests/gateway/test_soak.py tests/gateway/test_faults.py \
		tests/gateway/test_claude_code.py --soak --timeout 0

fuzz: setup ## property tests with ever new seeds: MINUTES (default 20) for each of four targets
	$(BIN)/python -m hack.fuzz --minutes $(MINUTES)

release-check: setup ## a real Prometheus; chart, CRDs and operator on the oldest and the newest Kubernetes
	$(BIN)/pytest tests/release --release
	TESTBED_KUBERNETES=oldest $(BIN)/pytest tests/release/test_chart.py --release
	TESTBED_KUBERNETES=oldest $(TIERS) component

coverage: setup ## once a release: how much of each package the tests without a node run
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest tests/unit tests/golden tests/files tests/memory tests/gateway
	$(BIN)/coverage run -m pytest tests/component
	$(BIN)/coverage combine --quiet
	$(BIN)/python -m hack.coverage_report

bench: setup ## the operator with N models (default 1000): times, writes, memory; JSON in the last line
	$(BIN)/python -m hack.bench.placement
	$(BIN)/python -m hack.bench --models $(N)

e2e: setup ## the tests on a real node
	$(TIERS) node-1 node-2 --cluster $(CLUSTER) $(if $(LLAMA_SWAP),--options "--llama-swap $(LLAMA_SWAP)")

chart: setup ## the chart rendered for many values, validated strictly
	$(TIERS) chart

bench-gateway: setup ## the latency that the gateway adds, beside a direct connection, a bare proxy and other routers; JSON in the last line
	$(BIN)/python -m hack.bench.gateway $(if $(LLAMA_SWAP),--llama-swap $(LLAMA_SWAP))

check: setup ## format, lint, types, layers, generated files
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m hack.check_names
	$(BIN)/python -m hack.check_generated

format: setup ## format, and apply ruff's fixes
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

manifests: setup ## generate crds/ from operator/llama_halo/api, the chart's copies, deploy/operator from the chart
	$(BIN)/python -m hack.manifests
