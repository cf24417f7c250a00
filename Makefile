# Every target sets up its environment by itself when that is needed; `make` alone lists them.
# On another machine than yours: `make setup PYTHON=python3.12`, or EXTRAS=dev,cuda12 for an NVIDIA GPU.

# The first of these that is new enough; plain python3 otherwise, for the message that it is too old.
PYTHON ?= $(or $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done),python3)
EXTRAS ?= dev
VENV ?= .venv
ARGS ?=
PEER ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup train test test-all check format bench benchmark gpu-check docs clean

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## create .venv with the tested versions (PYTHON=..., EXTRAS=dev,cuda12)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "qmix_jax needs Python 3.11 or newer, and $(PYTHON) is not; try: make setup PYTHON=/path/to/python3.12" >&2; \
	  exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once; a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $(STAMP)

train: $(STAMP) ## train QMIX on SMAX 3m (ARGS="num_seeds=5 gamma=0.98" changes settings)
	$(BIN)/python -m qmix_jax.train $(if $(findstring experiment=,$(ARGS)),,experiment=smax_3m) $(ARGS)

test: $(STAMP) ## run the tests (ARGS="-k replay" chooses some)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

test-all: $(STAMP) ## run the tests, slow ones too
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(STAMP) ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(STAMP) ## rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## measure speed and memory on this machine (ARGS="bench.seeds=[1,2,4]"; PEER=../JaxMARL: a table)
	$(BIN)/python -m qmix_jax.bench$(if $(PEER),.table bench.peer=$(PEER)) $(ARGS)

benchmark: $(STAMP) ## train what is missing of the benchmark, record it, write the tables (ARGS="map=3m cores=0,1")
	$(BIN)/python experiments/benchmark.py all $(ARGS)

gpu-check: $(STAMP) ## everything to find out on a GPU, in half an hour (ARGS="peer=../JaxMARL only=bench,profile")
	$(BIN)/python experiments/gpu_check.py $(ARGS)

docs: $(STAMP) ## build the documentation site into build/docs; fails on a broken link
	@$(BIN)/python -c 'import mkdocs, material' 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean: ## remove the environment, caches and build products; keeps runs/
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
