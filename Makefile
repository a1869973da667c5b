# Each target sets up what it needs: a virtual environment in .venv, from PyPI.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint
run: .venv/.ready
	$(BIN)/tftas-optuna run --n-trials 200 --out front

test: .venv/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/.ready: pyproject.toml
	@echo "Setting up .venv (PyTorch is a few GB; this takes some minutes)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@
