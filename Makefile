# Each target sets up what it needs: a virtual environment in .venv, from PyPI.
PYTHON ?= python3
BIN := .venv/bin
LOWEST := .venv-lowest/bin/python

.PHONY: run test test-lowest lint docs figures release-check optunahub
run: .venv/.ready
	$(BIN)/tftas-optuna run --n-trials 200 --out front

test: .venv/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-lowest: .venv-lowest/.ready
	OMP_NUM_THREADS=1 $(LOWEST) -m pytest --numprocesses auto --dist worksteal

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.docs
	$(BIN)/sphinx-build -W --keep-going -n -q docs docs/_build
	@echo "The pages are in docs/_build/index.html"

# Searches again, and draws and prints what the pages show of it.
figures: .venv/.docs
	$(BIN)/python docs/figures.py
	$(BIN)/python docs/screens.py
	$(BIN)/python docs/outputs.py

# Builds dist/, and tries the wheel where nothing else is installed.
release-check:
	PYTHON=$(PYTHON) .ci/release

# Writes the package of the sampler for OptunaHub, in the style of OptunaHub's registry.
optunahub: .venv/.ready
	$(BIN)/python .ci/optunahub.py dist/optunahub
	$(BIN)/ruff check --quiet --fix --config .ci/registry.toml dist/optunahub
	$(BIN)/ruff format --quiet --config .ci/registry.toml dist/optunahub

.venv/.ready: pyproject.toml
	@echo "Setting up .venv (PyTorch is a few GB; this takes some minutes)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[lint,test]'
	@touch $@

.venv/.docs: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

.venv-lowest/.ready: pyproject.toml .ci/lowest.py
	@echo "Setting up .venv-lowest with the lowest versions that pyproject.toml declares"
	$(PYTHON) -m venv --clear .venv-lowest
	$(LOWEST) -m pip install --quiet --disable-pip-version-check 'tomli; python_version < "3.11"'
	$(LOWEST) .ci/lowest.py > .venv-lowest/lowest.txt
	$(LOWEST) -m pip install --quiet --disable-pip-version-check \
		--constraint .venv-lowest/lowest.txt --editable '.[test]'
	@touch $@
