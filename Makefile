# Everything here works on a fresh Debian or Ubuntu machine with Python 3.11 and make.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
OUTPUT ?= demo-output

# Servers and tests share few cores: torch must not start a thread per core in each process.
export OMP_NUM_THREADS ?= 1
# Debug builds of nothing; unbuffered so that a killed run still shows what it did.
export PYTHONUNBUFFERED = 1

.DEFAULT_GOAL := help
.PHONY: help install install-demo demo check format generate web test test-system benchmark clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; set PYTHON=/path/of/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || [ "$$(id -u)" -ne 0 ] || \
		{ apt-get update -q && apt-get install -y -q --no-install-recommends python3-venv; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip

# torch goes first, by itself: pip would otherwise choose a newer one with gigabytes of CUDA.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt torch
	@touch $@

$(VENV)/.demo: pyproject.toml $(VENV)/.torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps monailabel
	@touch $@ $(VENV)/.demo

install: $(VENV)/.dev ## install everything for development into .venv

install-demo: $(VENV)/.demo ## install what the platform and its demo need into .venv

demo: $(VENV)/.demo ## run the main job: synthetic volume, or RAW=file.tif LABELS=file.tif
	OMP_NUM_THREADS= $(BIN)/python -m biosegment.demo --output $(OUTPUT) \
		$(if $(RAW),--raw $(RAW)) $(if $(LABELS),--labels $(LABELS)) $(DEMO_ARGS)

check: $(VENV)/.dev ## static checks: format, lint, types, import walls, contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format -d --exit-code
	$(BIN)/python scripts/check_breaking.py
	$(BIN)/python scripts/check_generated.py

format: $(VENV)/.dev ## format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format -w

generate: $(VENV)/.dev ## make the generated code anew: API stubs and texts, synchronous client, types of the page
	$(BIN)/python scripts/generate_api.py
	$(BIN)/python scripts/generate_api_text.py
	$(BIN)/python scripts/generate_sync_client.py
	$(BIN)/python scripts/generate_web_types.py

web: ## build the web page into the gateway (needs Node 20.19 or newer; its users need none)
	cd clients/web && npm ci --no-audit --no-fund && npm run check && npm run build

test: check ## static checks and the tests that need no other servers, under 15 minutes
	$(PYTEST) -m 'not system' -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 --durations=10

test-system: $(VENV)/.dev ## slow tests and those with real S3, PostgreSQL and killed processes, under 45 minutes
	bash scripts/apt-packages.sh
	bash scripts/npm-packages.sh
	$(PYTEST) -m system -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 --durations=20

benchmark: $(VENV)/.dev ## measure; prints PASS or FAIL per target (docs/benchmarks.md)
	$(BIN)/python -m benchmarks

clean: ## remove caches and demo output
	rm -rf $(OUTPUT) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
