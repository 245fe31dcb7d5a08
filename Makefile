# Commands for users and developers. tools/bootstrap.sh installs what a command needs.
PYTHON_IN_VENV := .venv/bin/python
CPP_SOURCES := $(wildcard triton_python_backend/onnxruntime/*.cc triton_python_backend/onnxruntime/*.h)
.DEFAULT_GOAL := help
NO_ENGINE := docker or podman is needed, and neither is installed: install Docker Engine with its Compose plugin (https://docs.docker.com/engine/install/), or Podman and docker-compose

# the whole suite: three workers for two cores, as many tests wait for servers; the slowest tests;
# in CI what of the code the tests ran
WORKERS ?= 3
COVERAGE := --cov --cov-report=term --cov-fail-under=90
WHOLE_SUITE := --numprocesses=$(WORKERS) --dist=loadscope --durations=25 $(if $(CI),$(COVERAGE))

.PHONY: help run up down status images deploy-all test bench bench-vectors lint audit format docs constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## serve in the foreground until Ctrl-C
	@tools/bootstrap.sh run
	@exec $(PYTHON_IN_VENV) -m tools serve

up: ## serve in the background; returns when the service is ready
	@tools/bootstrap.sh run
	@exec $(PYTHON_IN_VENV) -m tools up

down: ## stop the service that `make up` started
	@if [ -x $(PYTHON_IN_VENV) ]; then exec $(PYTHON_IN_VENV) -m tools down; else echo "nothing was started here yet"; fi

status: ## show what runs
	@if [ -x $(PYTHON_IN_VENV) ]; then exec $(PYTHON_IN_VENV) -m tools status; else echo "nothing was started here yet"; fi

images: ## build aurum-gateway and aurum-cpu; ARGS=triton for NVIDIA's Triton; BASE=, TAG= and others: deploy/docker/build.sh
	@deploy/docker/build.sh $(ARGS)

deploy-all: ## deploy with containers; ARGS="--file docker-compose.prod.yml" for the production stack
	@command -v docker >/dev/null || command -v podman >/dev/null || { printf 'error: %s\n' "$(NO_ENGINE)" >&2; exit 1; }
	@tools/bootstrap.sh run
	@exec $(PYTHON_IN_VENV) -m tools deploy $(ARGS)

# processes load what others have compiled, also where the environment asks Python not to write it
test: export PYTHONDONTWRITEBYTECODE :=
test: ## run the test suite; ARGS="tests/unit -k name" for a part of it
	@tools/bootstrap.sh dev
	@tools/bootstrap.sh golden
	@exec $(PYTHON_IN_VENV) -m pytest $(if $(ARGS),$(ARGS),$(WHOLE_SUITE))

bench-vectors: ## measure the vector store; SIZES=10000,100000,1000000 for more
	@tools/bootstrap.sh dev
	@exec $(PYTHON_IN_VENV) -m benchmarks.vectors $(if $(SIZES),--sizes $(SIZES))

bench: ## compare the service with insightface and measure it alone; MODELS=folder of the networks; ARGS="--checkouts FOLDER" adds other services
	@tools/bootstrap.sh dev
	@tools/bootstrap.sh golden
	@exec $(PYTHON_IN_VENV) -m benchmarks $(or $(MODELS),../shared/models) $(ARGS)

lint: ## check style, format, types, layers, dead code, dependencies, unsafe calls
	@tools/bootstrap.sh dev
	$(PYTHON_IN_VENV) -m ruff check .
	$(PYTHON_IN_VENV) -m ruff format --check .
	$(PYTHON_IN_VENV) -m bandit --quiet --configfile pyproject.toml --recursive gateway tools triton_python_backend model_repository benchmarks clients
	$(PYTHON_IN_VENV) -m mypy
	$(PYTHON_IN_VENV) clients/python/generate_sync.py --check
	cd clients/python && $(CURDIR)/$(PYTHON_IN_VENV) -m vulture
	cd clients/python && $(CURDIR)/$(PYTHON_IN_VENV) -m deptry src
	@PYTHONPATH=. .venv/bin/lint-imports --no-cache
	$(PYTHON_IN_VENV) -m vulture
	$(PYTHON_IN_VENV) -m deptry .
	shellcheck tools/*.sh tests/*.sh deploy/*/*.sh .ci/run
	.venv/bin/clang-format --dry-run -Werror $(CPP_SOURCES)

audit: ## look up known vulnerabilities of the pinned packages; needs the network
	@tools/bootstrap.sh dev
	@tools/pip_audit.sh

format: ## fix what ruff can fix and format the code
	@tools/bootstrap.sh dev
	$(PYTHON_IN_VENV) -m ruff check --fix .
	$(PYTHON_IN_VENV) -m ruff format .
	.venv/bin/clang-format -i $(CPP_SOURCES)

docs: ## regenerate .env.example, docs/reference/, docs/errors.md, a table of docs/security.md, dashboards
	@tools/bootstrap.sh dev
	@exec $(PYTHON_IN_VENV) -m tools.reference_docs

constraints: ## write requirements/*.txt anew from pyproject.toml, with hashes
	@tools/bootstrap.sh dev
	tools/constraints.sh

clean: ## remove environments and caches; keep the state in .aurum
	rm -rf .venv .venv-golden .mypy_cache .pytest_cache .ruff_cache aurum.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
