# The two commands of the README. PYTHON picks the interpreter, WORKDIR the run folder.
PYTHON ?= python3
VENV ?= .venv
WORKDIR ?= runs/quickstart
DIST ?= dist
BIN := $(VENV)/bin

.PHONY: quickstart test lint wheel

quickstart: $(VENV)/.installed
	$(BIN)/python -m dwm_jax.train --config experiments/configs/quickstart.py --workdir $(WORKDIR)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check dwm_jax experiments tests
	$(BIN)/ruff format --check dwm_jax experiments tests
	$(BIN)/mypy

# What an earlier build left in build/ would go into the wheel too.
wheel: $(VENV)/.installed
	rm -rf build
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir $(DIST) .

$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed tests/requirements.txt
	$(BIN)/python -m pip install --quiet -r tests/requirements.txt
	touch $@
