# Everything a person runs. `make demo` and `make test` set up what they need on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NPM_STAMP := labextension/node_modules/.installed
MODEL := smollm2-135m
# The package itself allows a range. On Linux PyPI's build comes with gigabytes for NVIDIA GPUs; without one:
# make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu (binder/postBuild does so). Empty: only pip's own index.
TORCH := torch==2.13.0
TORCH_INDEX ?=
# Said before anything is made, in words that any Python understands.
NEW_ENOUGH := import sys; sys.version_info >= (3, 11) or sys.exit("exo_lab needs Python 3.11 or newer, and %s is %d.%d. \
	Name another one, such as PYTHON=python3.12, behind make." % ((sys.executable,) + tuple(sys.version_info[:2])))

# Tests that start no cluster and look at no clock: two files at a time. Those of a browser's pictures, a wheel and a fresh
# environment wait more than they compute.
BESIDE := $(addprefix tests/,binder core engines models planning telemetry labextension/test_saved_notebook.py \
	labextension/test_wheel.py)

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
	@test -x $(BIN)/python || $(PYTHON) -c '$(NEW_ENOUGH)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH)
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
	$(BIN)/python -m pytest -n 2 --dist loadfile $(BESIDE); beside=$$?; \
		$(BIN)/python -m pytest $(addprefix --ignore=,$(BESIDE)) && exit $$beside

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
