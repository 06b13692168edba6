# `make demo` and `make test` work on a fresh machine with Python 3.11 or newer: they set up what they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= runs/demo
PYTEST := $(BIN)/pytest
WORKERS ?= 2
ONLY = -o addopts="--strict-markers --strict-config --import-mode=importlib -ra"

.PHONY: demo test test-slow test-peers test-browser site test-site test-wheel test-kill test-gpu lint format bench docs api setup clean

setup: $(VENV)/ready

# torch comes first and pinned: a looser request would pull the CUDA build.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[train,digits,parquet,explain,dev]"
	touch $@

demo: setup
	$(BIN)/assay demo --out $(OUT)

test: setup
	$(PYTEST) -n $(WORKERS) --dist worksteal

test-slow: setup
	$(PYTEST) $(ONLY) -m slow

test-peers:
	$(MAKE) -C benchmarks setup PYTHON=$(PYTHON)
	benchmarks/.peers/bin/python -m pytest $(ONLY) -m peers

# The accessibility check needs axe-core, which npm has; without npm it is skipped, and says so.
$(VENV)/axe.min.js: | setup
	-cd $(VENV) && npm pack --silent axe-core@4.14.1 && tar xzf axe-core-4.14.1.tgz package/axe.min.js \
		&& mv package/axe.min.js . && rm -r package axe-core-4.14.1.tgz

test-browser: setup $(VENV)/axe.min.js
	$(PYTEST) $(ONLY) -m browser

# The documentation, with every tutorial run: site/index.html.
site: setup
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

test-site: site $(VENV)/axe.min.js
	$(PYTEST) $(ONLY) -m site

test-wheel: setup
	$(BIN)/pip install --quiet --constraint constraints.txt build
	$(PYTEST) $(ONLY) -m wheel

test-kill: setup
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[ray]"
	$(PYTEST) $(ONLY) -m kill

test-gpu: setup
	$(PYTEST) $(ONLY) -m gpu

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(MAKE) -C benchmarks PYTHON=$(PYTHON)

# What is generated: the catalogue of `assay ls` and the reference made from it; the record of public names.
docs: setup
	$(BIN)/python -m assay.cli.catalogue
	$(BIN)/python -m assay.cli ls --markdown > docs/reference.md
	cd benchmarks && ../$(BIN)/python papers.py

api: setup
	$(BIN)/python tests/test_house.py

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
