# run: the exchange with a market playing on it.  test, test-long, check, bench: see README.md.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
ARGS ?=
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

.PHONY: help run test test-long check bench core fuzz mutants lock clean

help:
	@echo 'make run [ARGS="--for 30s --seed 7"]  start the exchange and play a market on it'
	@echo 'make test                             the tests (under 10 minutes)'
	@echo 'make test-long                        the slow legs: kill -9, long simulations'
	@echo 'make check                            linter, types, import arrows'
	@echo 'make bench [ARGS="NAME ..."]          benchmarks beside their baselines'
	@echo 'make fuzz                             the API against its own description, with another seed each time'
	@echo 'make core                             compile the engine: the same answers, faster'
	@echo 'make mutants [ARGS="matching_engine.calendar.*"]  which changes of the engine no test notices'
	@echo 'make lock                             pin and hash the requirements anew'
	@echo 'make clean                            remove what the above made'

run: .venv/.run
	@$(BIN)/cx play $(ARGS)

test: .venv/.dev
	@$(BIN)/python -m pytest $(ARGS)

test-long: .venv/.dev
	@$(BIN)/python -m pytest -m long --timeout=900 $(ARGS)

check: .venv/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fuzz: .venv/.dev
	@FUZZ_SEED=$${FUZZ_SEED:-$$RANDOM} FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-120} FUZZ_SECONDS=$${FUZZ_SECONDS:-900} \
		$(BIN)/python -m pytest -m long --timeout=1200 tests/integration/test_api_fuzz.py $(ARGS)

bench: .venv/.dev
	@$(BIN)/python -m tests.benchmarks $(ARGS)

core: .venv/.dev
	@$(BIN)/python -m matching_engine.core.build

mutants: .venv/.dev
	@$(BIN)/mutmut run $(ARGS)
	@$(BIN)/mutmut results | grep -v ': not checked' || echo 'None of them survived.'

lock: .venv/.dev
	@$(BIN)/pip install --quiet uv
	@$(BIN)/uv pip compile $(LOCK) --extra server --group build pyproject.toml -o requirements.txt
	@$(BIN)/uv pip compile $(LOCK) --extra server --group build --group dev pyproject.toml -c requirements.txt -o requirements-dev.txt

clean:
	rm -rf .venv .data build dist mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache deploy/kafka/target
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n '$(PYTHON)' || { echo 'No Python 3.11 or newer was found: install one (Debian: apt-get install python3 python3-venv; macOS: brew install python@3.13), or say make PYTHON=/path/to/python3' >&2; exit 1; }
	@echo 'Making .venv with $(PYTHON) ...'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo 'Python cannot make a venv here: install its package (Debian and Ubuntu: apt-get install python3-venv)' >&2; exit 1; }

.venv/.run: requirements.txt pyproject.toml | .venv/bin/python
	@echo 'Installing what the exchange needs (once) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: requirements-dev.txt .venv/.run
	@echo 'Installing what the tests need (once) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@
