# make demo   distil and judge handwritten digits, from nothing        (3 minutes on 2 cores with AVX-512, 10 without)
# make test   run the tests, from nothing
# make check  run the tests, the linters and the type checker
# Each makes its own virtual environment in .venv first; PYTHON names another interpreter.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
WORKERS ?= 2
DEMO := runs/demo

.PHONY: demo test lint check clean

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.core: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

.venv/.test: .venv/.core
	$(PIP) --editable '.[test]'
	touch $@

.venv/.dev: .venv/.test
	$(PIP) --editable '.[dev]'
	touch $@

demo: .venv/.core
	$(BIN)/distilset distill digits --method atom --ipc 1 --steps 500 --out $(DEMO)/atom-1 --overwrite
	$(BIN)/distilset distill digits --method atom --ipc 10 --steps 500 --out $(DEMO)/atom-10 --overwrite
	$(BIN)/distilset evaluate $(DEMO)/atom-1 $(DEMO)/atom-10 \
		--protocol quick --baseline random --baseline kcenter --baseline whole --trials 5
	$(BIN)/distilset show $(DEMO)/atom-10

test: .venv/.test
	$(BIN)/python -m pytest --numprocesses $(WORKERS)

lint: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

check: lint test

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
