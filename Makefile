# The verbs of the project. CI calls these, and nothing else.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?= python3

.PHONY: demo test test-fast check format docs clean

DEMO ?= demo

demo: $(READY)  ## the main job on the data that ships with the package
	$(BIN)/bertie demo --dir $(DEMO) --overwrite

# Two files of tests at a time: most wait for processes of one core.
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist loadfile

test: $(READY)  ## everything, slow tests too
	$(PYTEST)

test-fast: $(READY)  ## all but the slow tests
	$(PYTEST) -m "not slow"

check: $(READY)  ## prints nothing but what is wrong
	@$(BIN)/ruff format --quiet --diff .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports > .lint-imports.log 2>&1 || { cat .lint-imports.log; exit 1; }
	@$(BIN)/python -m benchmarks.tables --check
	@$(BIN)/python -m pytest -q --no-header --no-summary tests/contracts/test_names.py > .names.log 2>&1 || { cat .names.log; exit 1; }

format: $(READY)
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

docs: $(READY)  ## docs/benchmarks.md from the records
	$(BIN)/python -m benchmarks.tables

# torch is named with its version, so that no other package can bring a newer build with it.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[notebook,grpc]" --group dev
	touch $(READY)

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .lint-imports.log .names.log
