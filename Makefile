# make train        everything from nothing: virtual environment, then the built-in demo (warm-up, DPO, table and plots)
# make demo-sweep   the demo over losses and betas, compared in a table and a picture
# make test         the tests that take seconds to a minute each;  make test-slow  the others
# make check        format, lint, types, the import rule
# make setup        the virtual environment alone (.venv);  make clean  removes it and all caches, never outputs/
# Another interpreter: make setup PYTHON=python3.12

PYTHON ?= python3
WORKERS ?= 2

VENV := .venv
READY := $(VENV)/.ready
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet --quiet install --constraint constraints.txt
# Before everything that runs: DeepSpeed looks for ninja on the PATH, the launchers for accelerate.
IN_VENV := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

.PHONY: train demo-sweep test test-slow check setup clean

train: $(READY)
	@$(IN_VENV) launch/demo.sh

demo-sweep: $(READY)
	@$(IN_VENV) launch/demo_sweep.sh

test: $(READY)
	@$(IN_VENV) python -m pytest --numprocesses $(WORKERS)

test-slow: $(READY)
	@$(IN_VENV) python -m pytest -m "slow and not gpu"

check: $(READY)
	@$(IN_VENV) ruff format --check .
	@$(IN_VENV) ruff check .
	@$(IN_VENV) mypy
	@$(IN_VENV) python -m pytest tests/unit/test_imports.py

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo 'Python 3.11 or newer is needed, "$(PYTHON)" is not: name one with `make $(MAKECMDGOALS) PYTHON=python3.12`.' >&2; \
	  exit 1; }
	@echo 'Setting up $(VENV): torch, DeepSpeed, transformers and what they need. A few minutes, once.'
	@$(PYTHON) -m venv $(VENV)
	@# torch alone first: the others build and resolve against it.
	@$(PIP) torch
	@$(PIP) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
