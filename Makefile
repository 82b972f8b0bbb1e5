# `make help` says what each target does. Only Python 3.11 and make are needed; everything else comes by hash.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long lint unit integration faults proof bench lock clean setup-test
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
ARGS ?=
no_python = echo "error: no Python on PATH: install Python 3.11, or make PYTHON=/path/to/python3.11 ..." >&2; exit 1;
SETUP := $(if $(PYTHON),,$(no_python)) $(PYTHON) infra/setup_env.py

# Says how long a tier took, and keeps its exit code.
define timed
	@begun=$$(date +%s); $(2); code=$$?; echo "== $(1): $$(( $$(date +%s) - begun )) s, exit code $$code"; exit $$code
endef

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## .venv with the locked runtime packages and `energyai`; the embedded parts fetched and verified
	@$(SETUP) runtime

setup-test: ## `make setup`, and the development and training packages
	@$(SETUP) test

demo: setup ## The main job on real meters until Ctrl-C; ARGS="--until-complete --json" ends by itself
	@$(BIN)/energyai demo $(ARGS)

test: setup-test ## Lint, types, and all the tests, tier by tier with their times
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory integration
	@$(MAKE) --no-print-directory faults

lint: ## Style and types
	$(call timed,lint,$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy)

unit: ## Tests without Java, in seconds
	$(call timed,unit,$(BIN)/pytest -q tests/unit $(ARGS))

integration: ## Tests on the real Kafka, Flink and TimescaleDB
	$(call timed,integration,$(BIN)/pytest -q -m "not long" tests/integration $(ARGS))

faults: ## Tests that kill the parts in mid-run
	$(call timed,faults,$(BIN)/pytest -q -m "not long" tests/faults $(ARGS))

test-long: setup-test ## The tests of the two tiers above that take minutes each (marked `long`)
	$(call timed,long,$(BIN)/pytest -q -m long tests/integration tests/faults $(ARGS))

proof: ## The long proofs (two hours): schedules of faults, hostile records, a replay compared, a disturbed year; not part of the tests
	$(call timed,schedules,ENERGYAI_FAULT_SCHEDULES=20 $(BIN)/pytest -q tests/faults/test_schedules.py $(ARGS))
	$(call timed,hostile records,$(BIN)/pytest -q tests/integration/test_fuzz.py --fuzz-records 10000 $(ARGS))
	$(call timed,replay and year,$(BIN)/pytest -q tests/proofs --year-days 365 --year-meters 50 $(ARGS))

bench: setup ## Engines side by side, on the same readings; never part of the tests; ARGS="--small", "--json", "--help"
	@$(BIN)/python -m tests.bench $(ARGS)

lock: ## Resolve the locks again; ARGS=--upgrade takes newer versions
	@$(SETUP) lock $(ARGS)

clean: ## Remove caches and .venv; .energyai (data, fetched parts) stays
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
