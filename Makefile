# The commands of the README. PYTHON picks the interpreter, WORKDIR the run folder.
PYTHON ?= python3
VENV ?= .venv
WORKDIR ?= runs/quickstart
DIST ?= dist
# What `make smoke` runs: a check of every floor that trains nothing to convergence and starts no command.
SMOKE := tests/test_config.py tests/test_layers.py tests/test_run_phase.py tests/test_workdir.py tests/maths \
    tests/networks tests/learners/test_td3_bc.py tests/data/test_dataset.py tests/imagination/test_sources.py \
    tests/runtime/test_keys.py tests/runtime/test_locks.py tests/runtime/test_row_files.py
BIN := $(VENV)/bin

.PHONY: quickstart test smoke times lint wheel

quickstart: $(VENV)/.installed
	$(BIN)/python -m dwm_jax.train --config experiments/configs/quickstart.py --workdir $(WORKDIR)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

smoke: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(SMOKE)

# Where the time of the tests goes, file by file, in seconds of the clock and of processors.
times: $(VENV)/.installed-test
	$(BIN)/python -m pytest --times

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
