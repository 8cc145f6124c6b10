# Everything a person runs. `make demo` and `make test` set up what they need on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NPM_STAMP := labextension/node_modules/.installed
MODEL := smollm2-135m
# The CPU build, the same everywhere; the package itself allows a range.
TORCH := torch==2.13.0

.PHONY: demo test check format bench lab install model clean help

help:
	@echo "make demo    set up, start three kernels as nodes, cut a real model over them, generate"
	@echo "make test    every test"
	@echo "make lab     JupyterLab on the first lesson"
	@echo "make check   format, lint and type checks, changing nothing"
	@echo "make format  format and sort imports"
	@echo "make bench   all benchmarks: tables here, JSON in benchmarks/results/"

install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(STAMP)

# What the extension's own tests and linters need; building it needs less, and the package's build sees to that.
$(NPM_STAMP): labextension/package-lock.json
	cd labextension && npm ci --no-audit --no-fund --loglevel=error
	touch $(NPM_STAMP)

model: $(STAMP)
	$(BIN)/exo-lab models --fetch $(MODEL)

demo: model
	$(BIN)/exo-lab demo

test: model $(NPM_STAMP)
	cd labextension && npm test
	$(BIN)/python -m pytest

check: $(STAMP) $(NPM_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	cd labextension && npm run lint

format: $(STAMP) $(NPM_STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	cd labextension && npm run format

bench: model
	$(BIN)/python -m benchmarks

lab: model
	$(BIN)/jupyter lab notebooks/01-your-first-cluster.ipynb

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
