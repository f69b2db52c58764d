# Two commands do everything on a machine with Python >= 3.11, make and git: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SIZE ?= small
OUT ?= out/$(SIZE)
SEED ?= 0

# Where the machine forbids it, each of many processes would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo dashboard docs test test-slow test-thorough origin-tools lint format bench serve-peers lock clean
help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(STAMP) ## create .venv from the pinned lock file

# pip is what every machine has. uv is used only where it is told where the CPU build of torch is:
# left alone it would resolve torch to a CUDA build of several gigabytes.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "pbcast needs Python >= 3.11, this is $$($(PYTHON) --version); set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "could not create $(VENV): install the venv module of your Python (Debian: python3-venv)" >&2; exit 1; }
	@echo "installing the pinned packages into $(VENV) (once; a few minutes)"
	@links="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}"; \
	if command -v uv >/dev/null && [ -n "$$links" ]; then \
	  UV_FIND_LINKS="$$links" uv pip install --quiet --python $(BIN)/python -r requirements.lock && \
	  uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . ; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@

demo: $(STAMP) ## the main job end to end on real weights (SIZE=small|full, OUT=DIR, SEED=0)
	@$(BIN)/pbcast run --size $(SIZE) --out $(OUT) --seed $(SEED)
	@$(BIN)/pbcast emulate --size $(SIZE) --out $(OUT) --seed $(SEED) --nodes 3 --users 4 --slots 1 --loss 0.05 --clients 1

dashboard: $(STAMP) ## a live edge on real weights, and a page that shows it (Ctrl-C ends both)
	@$(BIN)/pbcast dashboard --live

docs: ## the documentation as pages in out/docs, links checked (an environment of its own, .venv-docs)
	@test -x .venv-docs/bin/mkdocs || { $(PYTHON) -m venv .venv-docs && \
	  .venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r demo/docs/requirements.txt; }
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict -f demo/docs/mkdocs.yml
	@echo out/docs/index.html

lint: $(STAMP) ## style, types, import rules, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell pbstore policy radio demo tests README.md CONTRIBUTING.md CHANGELOG.md

test: lint ## lint, then the offline tests
	$(BIN)/python -m pytest

test-slow: $(STAMP) ## the tests that take minutes or need the zoo's weights
	$(BIN)/python -m pytest -m "slow and not network"

test-thorough: $(STAMP) ## the slow tests, those of chance five times as long
	PBCAST_THOROUGH=5 $(BIN)/python -m pytest -m "slow and not network"

origin-tools: ## a real object store for the slow tests of origins (Debian, as root; 61 MB)
	apt-get install -y --no-install-recommends ceph-mon ceph-osd ceph-common radosgw

bench: $(STAMP) ## every benchmark, beside its peers (long)
	@set -e; for bench in tests/benchmarks/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench $(BENCH_ARGS); done

serve-peers: ## nginx from Debian, for the benchmark of serving (as root)
	apt-get install -y -qq nginx-light

lock: ## write requirements.lock anew from pyproject.toml (maintainers)
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet "torch==2.13.0" "hatchling" "editables" ".[all,dev]"
	{ echo "# Pinned for every machine, made by make lock. torch stays at 2.13.0."; \
	  .venv-lock/bin/pip freeze --exclude pbcast --exclude pip --exclude setuptools | sed 's/+cpu$$//'; } > requirements.lock
	rm -rf .venv-lock

clean: ## remove what the targets made, not the cache of real weights
	rm -rf $(VENV) .venv-docs out .mypy_cache .ruff_cache .pytest_cache .hypothesis
