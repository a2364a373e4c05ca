# make demo and make test set up everything they need; PYTHON chooses the interpreter (3.11 or 3.12).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SPEC ?= specs/denoise.yaml
DOCS_STAMP := $(VENV)/.docs-installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := true
# Nothing is compiled at install, so what is imported has to be kept compiled, or each process does it again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test lint bench docs ui clean

install: $(STAMP)

# torch first and alone: the CPU build, before any resolver may bring another one. Python compiles what is imported;
# compiling all 31,000 files here would take minutes.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --no-compile "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install -q --no-compile -c constraints.txt -e ".[all,dev]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/sia-flow apply $(SPEC)

test: $(STAMP)
	$(BIN)/pytest -n 2 --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

# The site's generator is no part of `make install`: only this target needs its twelve packages.
$(DOCS_STAMP): $(STAMP)
	$(BIN)/pip install -q --no-compile -c constraints.txt "$$(grep '^mkdocs-material==' constraints.txt)"
	touch $(DOCS_STAMP)

docs: $(DOCS_STAMP)
	$(BIN)/pytest -n 0 tests/docs
	$(BIN)/mkdocs build --strict

ui: $(STAMP)
	$(BIN)/sia-flow ui

clean:
	rm -rf site .sia-flow runs mlruns/artifacts mlruns/mlflow.db*
