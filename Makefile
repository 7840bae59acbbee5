# Two commands do all of their own set-up: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Two processes with a thread each: torch would start as many threads as there are cores in both.
FAST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not ray" --numprocesses 2 --dist worksteal --durations=5
ROOM ?= score
export RAY_AUTH_MODE ?= token

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-long lint format bench lock clean

help: ## show what make can do
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: $(VENV)/.demo ## run the main job, end to end, on real flights
	@$(BIN)/raymlops demo

test: $(VENV)/.dev lint ## lint, types, every test
	@$(FAST)
	@$(BIN)/python -m pytest -m ray --durations=10

test-fast: $(VENV)/.dev ## only the tests that need no Ray
	@$(FAST)

test-long: $(VENV)/.dev ## kill batch runs and sweeps from outside 200 times instead of 30 and 6
	@RAYMLOPS_KILLS=200 $(BIN)/python -m pytest tests/score tests/train -k 'random_moments or whoever_dies'

lint: $(VENV)/.dev ## ruff, mypy and the floors of the house
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.dev ## rewrite the code in the house's format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

bench: $(VENV)/.dev ## measure a room against its rival: make bench ROOM=score
	@$(BIN)/python benchmarks/$(ROOM).py

lock: ## write constraints.txt anew from the newest versions that fit pyproject.toml
	@$(PYTHON) -m venv .lock && .lock/bin/python -m pip install --quiet 'torch==2.13.0' -e '.[dev,sklearn,sql,delta,cloud,stream,gpu]'
	@(sed -n '/^#/p' constraints.txt; .lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu//') > .lock/new
	@mv .lock/new constraints.txt && rm -rf .lock

clean: ## remove the environment and every artefact of the demo
	@rm -rf $(VENV) .raymlops .mypy_cache .ruff_cache .pytest_cache

$(VENV)/bin/python:
	@command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) is missing: apt-get install python3 python3-venv"; exit 3; }
	@$(PYTHON) -m venv $(VENV) || { echo "venv is missing: apt-get install python3-venv"; exit 3; }

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "setup: installing raymlops and what it needs (about 2 minutes, once)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "setup: installing raymlops and what its tests need (about 2 minutes, once)"
	@$(PIP) --editable '.[dev,sklearn,sql,delta,cloud,stream,gpu]'
	@touch $@ $(VENV)/.demo
