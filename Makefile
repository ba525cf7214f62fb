# The two commands of the README. PYTHON picks the interpreter, WORKDIR the run folder.
PYTHON ?= python3
VENV ?= .venv
WORKDIR ?= runs/quickstart
BIN := $(VENV)/bin

.PHONY: quickstart test lint

quickstart: $(VENV)/.installed
	$(BIN)/python -m dwm_jax.train --config experiments/configs/quickstart.py --workdir $(WORKDIR)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check dwm_jax experiments tests
	$(BIN)/ruff format --check dwm_jax experiments tests
	$(BIN)/mypy

$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed tests/requirements.txt
	$(BIN)/python -m pip install --quiet -r tests/requirements.txt
	touch $@
