# What a user and a developer run; everything needed is installed by tools/bootstrap.sh.
PYTHON_IN_VENV := .venv/bin/python
.DEFAULT_GOAL := help

.PHONY: help run up down status test bench bench-vectors lint format docs constraints clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## serve in the foreground until Ctrl-C
	@tools/bootstrap.sh run
	@exec $(PYTHON_IN_VENV) -m tools serve

up: ## serve in the background; returns when it answers
	@tools/bootstrap.sh run
	@exec $(PYTHON_IN_VENV) -m tools up

down: ## stop what `make up` started
	@if [ -x $(PYTHON_IN_VENV) ]; then exec $(PYTHON_IN_VENV) -m tools down; else echo "nothing was ever started here"; fi

status: ## say what runs
	@if [ -x $(PYTHON_IN_VENV) ]; then exec $(PYTHON_IN_VENV) -m tools status; else echo "nothing was ever started here"; fi

test: ## run the test suite; ARGS="tests/unit -k name" for a part of it
	@tools/bootstrap.sh dev
	@tools/bootstrap.sh golden
	@exec $(PYTHON_IN_VENV) -m pytest $(ARGS)

bench-vectors: ## measure the home of vectors; SIZES=10000,100000,1000000 for more
	@tools/bootstrap.sh dev
	@exec $(PYTHON_IN_VENV) -m benchmarks.vectors $(if $(SIZES),--sizes $(SIZES))

bench: ## measure the service; MODELS=folder of the networks; ARGS="--checkouts FOLDER": beside other services
	@tools/bootstrap.sh dev
	@tools/bootstrap.sh golden
	@exec $(PYTHON_IN_VENV) -m benchmarks $(or $(MODELS),../shared/models) $(ARGS)

lint: ## check style, format, types, layers
	@tools/bootstrap.sh dev
	$(PYTHON_IN_VENV) -m ruff check .
	$(PYTHON_IN_VENV) -m ruff format --check .
	$(PYTHON_IN_VENV) -m mypy
	@PYTHONPATH=. .venv/bin/lint-imports --no-cache

format: ## bring the code into its format
	@tools/bootstrap.sh dev
	$(PYTHON_IN_VENV) -m ruff check --fix .
	$(PYTHON_IN_VENV) -m ruff format .

docs: ## write the pages of docs/reference/ anew from the code
	@tools/bootstrap.sh dev
	@exec $(PYTHON_IN_VENV) -m tools.reference_docs

constraints: ## write constraints.txt anew from pyproject.toml
	@tools/bootstrap.sh dev
	tools/constraints.sh

clean: ## remove environments and caches; state in .aurum stays
	rm -rf .venv .venv-golden .mypy_cache .pytest_cache .ruff_cache aurum.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
