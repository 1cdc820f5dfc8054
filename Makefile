# One command to train, one to test, on a machine that has only Python and make.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
EXAMPLE ?= tuned_examples/rmix/macn-4x7.yaml

BIN := $(VENV)/bin
METADATA := pyproject.toml setup.cfg constraints.txt
# An empty file each: it is newer than METADATA while the installation is up to date.
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_DOCS := $(VENV)/.installed-docs
INSTALLED_RELEASE := $(VENV)/.installed-release

# pip writes a line per package and check; a person wants the big downloads only. The
# rest is in the log. Errors go to stderr, which is left alone. The pip that Python
# brings takes twice as long as the pinned one. Python compiles a module at its first
# import, so pip need not compile all of them.
PIP_LOG := $(VENV)/pip.log
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check \
	--progress-bar off --no-compile --constraint constraints.txt
SHOW_PROGRESS = sed -u -n \
	-e 's/^ *Downloading .*\/\([^/ ]* ([0-9.]* MB)\)/  downloading \1/p' \
	-e 's/^ *Downloading \([^/ ]* ([0-9.]* MB)\)/  downloading \1/p' \
	-e 's/^Installing collected packages.*/  installing packages/p'
install = $(PIP_INSTALL) --editable '$(1)' | tee $(PIP_LOG) | $(SHOW_PROGRESS)

# Without its caches, Python would compile every module at every start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) \
		| while IFS=$$'\t' read -r name text; do \
			printf '  make %-10s %s\n' "$$name" "$$text"; done

.PHONY: train
train: $(INSTALLED) ## Set up, then train RMIX on Multi-Agent Cliff Navigation.
	$(BIN)/rllib train file $(EXAMPLE)

.PHONY: test-fast
test-fast: $(INSTALLED_DEV) ## Set up, then run the tests without Ray and training.
	$(BIN)/python -m pytest --fast -n 2 --dist worksteal -m "not long"

.PHONY: test
test: lint ## Set up, then run the linters, the type checker and the tests.
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not long"

.PHONY: test-long
test-long: $(INSTALLED_DEV) ## Set up, then run the tests that take minutes each.
	$(BIN)/python -m pytest -m long

.PHONY: lint
lint: $(INSTALLED_DEV) ## Set up, then run the linters, the type and the spell checker.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2
	$(BIN)/codespell

.PHONY: docs
docs: $(INSTALLED_DOCS) ## Set up, then build the site of the documentation in build/site.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open build/site/index.html, or run $(BIN)/mkdocs serve for a site with search"

.PHONY: dist
dist: $(INSTALLED_RELEASE) ## Set up, then build the wheel and the source distribution in dist, and check them.
	rm -rf build dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

.PHONY: coverage
coverage: $(INSTALLED_DEV) ## Set up, then measure which lines `make test` runs.
	$(BIN)/coverage run -m pytest -m "not long"
	for part in ops config evaluation core; do \
		$(BIN)/coverage report --include="rllib_risk/$$part/*" --fail-under=90; done
	$(BIN)/coverage report --fail-under=80

.PHONY: bench
bench: $(INSTALLED_DEV) ## Set up, then run the benchmarks, without replay_memory.py (11 GB) and soak.py.
	for script in benchmarks/{sampling,decision,update,learners,scaling,distributions,offline,runner_scaling,hvac,smax,watchdog}.py; do \
		echo "== $$script"; $(BIN)/python "$$script"; done

.PHONY: clean
clean: ## Remove the environment, the build products and the caches.
	rm -rf $(VENV) build dist *.egg-info
	rm -rf .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { \
		echo "No Python found; install Python 3.11 or run: make PYTHON=/path/to/python" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is too old: constraints.txt needs Python 3.11 or newer." >&2; \
		exit 1; }
	@echo "Creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) --quiet --upgrade pip

$(INSTALLED): $(METADATA) | $(BIN)/python
	@echo "Installing (several minutes the first time; all details in $(PIP_LOG))"
	@$(call install,.)
	@touch $@

$(INSTALLED_DEV): $(METADATA) | $(BIN)/python
	@echo "Installing with the tools for development (details in $(PIP_LOG))"
	@$(call install,.[dev])
	@touch $(INSTALLED) $@

$(INSTALLED_DOCS): $(METADATA) | $(BIN)/python
	@echo "Installing with the tools for the site (details in $(PIP_LOG))"
	@$(call install,.[docs])
	@touch $(INSTALLED) $@

$(INSTALLED_RELEASE): $(METADATA) | $(BIN)/python
	@echo "Installing with the tools for a release (details in $(PIP_LOG))"
	@$(call install,.[release])
	@touch $(INSTALLED) $@
