# One command for each thing a person does here; `make help` lists them.
#
# Everything is written below this folder, except private keys: they go to
# $XDG_CONFIG_HOME/forebear/keys (or ~/.config/forebear/keys).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
TORCH := torch==2.13.0

# dvc starts `forebear` and `python` by name, so the environment's own come first
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONNOUSERSITE := 1
export DVC_NO_ANALYTICS := 1
export DVC_SITE_CACHE_DIR := $(CURDIR)/.dvc/tmp/site
# nothing is fetched from a model hub unless you say so, and libraries' caches stay inside this folder
export HF_HUB_OFFLINE ?= 1
export HF_HOME := $(CURDIR)/.dvc/tmp/hub
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: help
help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(VENV)/.package  ## make .venv with everything that the pipeline needs

.PHONY: venv-dev
venv-dev: $(VENV)/.dev  ## the same with the tools for tests and lint

.PHONY: params
params: venv  ## check every section of params.yaml
	@python -m stages

.PHONY: repro
repro: venv params  ## run the pipeline and verify what it made
	@forebear keys ensure
	@forebear doctor --mend
	@dvc repro
	@code=0; forebear verify . || code=$$?; \
	  echo; forebear summary --verify-exit $$code; exit $$code

.PHONY: test
test: venv-dev  ## all tests, the smoke pipeline included
	@python -m pytest $(PYTEST_ARGS)

.PHONY: smoke
smoke: venv-dev  ## the smoke pipeline alone, through dvc repro in a temporary clone
	@python -m pytest -m e2e $(PYTEST_ARGS)

FUZZ_ARGS ?=
.PHONY: fuzz
fuzz: $(VENV)/.fuzz  ## fuzz every parser, then 10,000 random changes of a release (FUZZ_ARGS)
	@python -m tests.fuzz $(FUZZ_ARGS)

.PHONY: lint
lint: venv-dev  ## style, types, import contracts
	ruff check .
	ruff format --check .
	mypy
	lint-imports

.PHONY: bench
bench: venv  ## what recording and verifying cost, as ratios of one run
	@python -m benchmarks

.PHONY: lock
lock: venv-dev  ## write the hashed locks in requirements/ anew
	@PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= python requirements/lock.py

.PHONY: wheel
wheel: venv-dev  ## build the wheel into dist/
	@python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls -l dist

.PHONY: clean
clean:  ## remove outs and caches; keys, .venv and DVC's cache stay
	@git clean -fdXq -- data links release cards
	@rm -rf .dvc/tmp build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache
	@find forebear stages tests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean  ## the same, with .venv and DVC's cache
	@rm -rf .venv .dvc/cache

# Stamps: each is touched when its step is complete, so an interrupted step is done again.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed; try: make PYTHON=python3.11" >&2; exit 4; }
	@echo "making .venv" >&2
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# torch first, from wherever pip is set up to look; the locks leave it out. --no-deps below: the
# lock is complete, and what it leaves out on purpose must not come back.
$(VENV)/.train: $(VENV)/.made requirements/train.txt
	@echo "installing $(TORCH), then the locked packages; a few minutes the first time" >&2
	@python -m pip install $(TORCH)
	@python -m pip install --no-deps --require-hashes -r requirements/train.txt
	@touch $@

$(VENV)/.package: $(VENV)/.train pyproject.toml
	@python -m pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.package requirements/dev.txt
	@python -m pip install --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev requirements/fuzz.txt
	@python -m pip install --quiet --no-deps --require-hashes -r requirements/fuzz.txt
	@touch $@
