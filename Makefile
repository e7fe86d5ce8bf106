# The targets that people and continuous integration use; `make` alone lists them.
#   PYTHON  the interpreter that .venv is made from (3.11 to 3.13)        make test PYTHON=python3.13
#   JOBS    how many processes run the tests                              make test JOBS=1
#   ARGS    passed on to pytest, or to the benchmark                      make test ARGS='tests/dags -x'

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
ARGS ?=
# One more than two cores have: a fifth of the time tests wait. Each takes up to 3 GB of memory.
JOBS ?= 3
VENV := .venv
BIN := $(VENV)/bin
# An Airflow configuration or another environment of the caller's shell must not leak in.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

demo_extras := worker,airflow,web,demo
test_extras := worker,train,export,airflow,web,timm,demo,notebooks,dev
demo_ready := $(VENV)/.ready-demo
test_ready := $(VENV)/.ready-test

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(demo_ready) ## Caption sample photographs and a video through Airflow (output in build/demo/)
	@$(BIN)/python infra/demo/run.py $(ARGS)

# Threads that wait for work sleep, and each process has one: those of one test take the processors from another's.
test test-quick: export OMP_WAIT_POLICY := PASSIVE
test test-quick: export OMP_NUM_THREADS := 1

.PHONY: test
test: $(test_ready) ## Run every test; as root on Debian, install the programs that some of them use
	@tests/system-packages.sh
	$(BIN)/python -m pytest --numprocesses=$(JOBS) --no-loadscope-reorder --durations=30 $(ARGS) < /dev/null

.PHONY: test-quick
test-quick: $(test_ready) ## Run the tests that take seconds
	$(BIN)/python -m pytest --numprocesses=$(JOBS) --no-loadscope-reorder -m 'not slow' $(ARGS) < /dev/null

.PHONY: lint
lint: ruff mypy imports ## Check style (ruff), types (mypy, strict) and layers (import-linter)

.PHONY: ruff
ruff: $(test_ready)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: mypy
mypy: $(test_ready)
	$(BIN)/mypy
	$(BIN)/mypy dags/*.py infra/demo/*.py infra/examples/*.py docs/notebooks/*.py

.PHONY: imports
imports: $(test_ready)
	$(BIN)/lint-imports --no-cache --no-logo

.PHONY: format
format: $(test_ready) ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(test_ready) ## Measure speed and memory (table, and build/bench.json)
	@$(BIN)/python -m tests.benchmarks $(ARGS)

.PHONY: clean
clean: ## Remove what the other targets made, except the environment
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## Remove the environment too
	rm -rf $(VENV)

# The environment. Each stamp is the state "what this target needs is installed"; it goes stale when the
# dependencies change, and only then.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo 'gpucapt needs Python 3.11, 3.12 or 3.13; name one with: make PYTHON=python3.12 …' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo 'The environment could not be made. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }

define install
	@mkdir -p build
	@echo 'Installing gpucapt[$(1)] into $(VENV) (several GB the first time; details: build/pip.log)'
	@{ $(BIN)/python -m pip install --upgrade 'pip>=25' && \
	   $(BIN)/python -m pip install -c constraints.txt -e '.[$(1)]'; } > build/pip.log 2>&1 < /dev/null || { \
	  tail -n 20 build/pip.log; exit 1; } >&2
endef

$(demo_ready): pyproject.toml constraints.txt | $(BIN)/pip
	$(call install,$(demo_extras))
	@touch $@

$(test_ready): pyproject.toml constraints.txt | $(BIN)/pip
	$(call install,$(test_extras))
	@touch $@ $(demo_ready)
