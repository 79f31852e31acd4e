# Everything that is done with SPORK CA from a checkout. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where `make run` starts from. Any folder of declarations will do.
QUICKSTART ?= examples/quickstart
# Further arguments for pytest, as in `make test PYTEST='-k acme'`.
PYTEST ?=
KUBE_ASSETS_DIR ?= $(CURDIR)/build/kube-assets

# Three packages are links to the folders at the top. Git writes a link as a small text file where it may not make links; the
# program would then start without those packages, so that nothing may be done with such a checkout.
LINKED := hierarchy controller api
BROKEN := $(strip $(foreach name,$(LINKED),$(if $(wildcard spork/$(name)/__init__.py),,spork/$(name))))
ifneq ($(BROKEN),)
$(error This checkout was made without symbolic links ($(BROKEN)): check it out again on a file system that has them, with git config core.symlinks true)
endif

.PHONY: help run demo test check crds manifests bench fmt wheel kube-assets lock clean dev

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

# The stamps make an installation happen again when, and only when, what it was made from has changed.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "SPORK CA needs Python 3.11 or newer; set PYTHON to one." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: requirements.lock pyproject.toml setup.py | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock pyproject.toml setup.py | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.installed

run: $(VENV)/.installed ## Install what is locked, then start everything on this machine
	$(BIN)/spork up $(QUICKSTART)

demo: $(VENV)/.installed-dev ## Show everything on a Kubernetes API server: KUBECONFIG, or a control plane from KUBEBUILDER_ASSETS
	$(BIN)/python scripts/demo

dev: $(VENV)/.installed-dev ## Install what development and tests need

test: check ## Run the checks and all tests; the summary names what could not run here
	$(BIN)/python -m pytest tests $(PYTEST)

check: $(VENV)/.installed-dev ## Formatting, lints, types, layers and drift of crds/, in under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m spork.controller.crds --check crds
	$(BIN)/python scripts/make-manifests --check

crds: $(VENV)/.installed-dev ## Write crds/*.yaml from the models
	$(BIN)/python -m spork.controller.crds crds
	$(BIN)/python scripts/make-manifests

manifests: $(VENV)/.installed-dev ## Write the Helm chart from the kustomize base, and Argo CD's configuration
	$(BIN)/python scripts/make-manifests

bench: $(VENV)/.installed-dev ## Measure, and print tables
	$(BIN)/python -m pytest tests/bench -m bench --capture=no -p no:randomly $(PYTEST)

fmt: $(VENV)/.installed-dev ## Format the code and repair what can be repaired
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

# Dependencies of the build come from the lock, so that a wheel is built by what was reviewed and without a network.
wheel: $(VENV)/.installed ## Build the wheel, list it, and fail if a linked package is missing
	rm -rf build/lib build/bdist.* dist/*.whl
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --wheel-dir dist .
	scripts/list-wheel dist/*.whl

kube-assets: ## Bring the binaries of a Kubernetes control plane for the operator's tests
	@scripts/kube-assets $(KUBE_ASSETS_DIR)

# The locks hold hashes for every platform and never name where packages come from: that is each user's own configuration.
COMPILE = $(BIN)/uv --quiet pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --group pyproject.toml:build

lock: $(VENV)/.installed-dev ## Write the lock files anew; LOCK_FLAGS=--upgrade takes newer versions
	$(COMPILE) --extra embedded $(LOCK_FLAGS) pyproject.toml --output-file requirements.lock
	$(COMPILE) --extra embedded $(LOCK_FLAGS) --extra dev --constraint requirements.lock pyproject.toml --output-file requirements-dev.lock
	$(COMPILE) $(LOCK_FLAGS) --extra operator --constraint requirements-dev.lock pyproject.toml --output-file requirements-image.lock
	@! grep -nE 'https?://|--(extra-)?index-url|--find-links' requirements.lock requirements-dev.lock requirements-image.lock || { echo "A lock file names an address." >&2; exit 1; }

clean: ## Remove what was built and installed here; the state in .spork stays
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis htmlcov .coverage .coverage.* *.egg-info
	find api controller hierarchy spork tests -name __pycache__ -type d -prune -exec rm -rf {} +
