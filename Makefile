# The main commands are `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo tables-tiny test test-long lint format install deps clean

install: $(VENV)/installed

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/dvc repro
	$(BIN)/fmit summary

# All tables and figures from a few synthetic posts, in the folder tables-tiny; a second run trains nothing
tables-tiny: install
	$(BIN)/python -m bench.tables_tiny

# One thread per worker: more would compete for the cores
test: install lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-long: install
	$(BIN)/python -m pytest -m long --timeout 3600

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

deps: install
	$(BIN)/python -m tests.imports

clean:
	rm -rf out runs .fmit/resume
