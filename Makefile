# Every target does its own set-up. Package caches live outside the checkout (uv's and Go's own cache folders).
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport VIRTUAL_ENV

.PHONY: setup check test test-slow demo bench lock clean

setup: $(STAMP)

$(STAMP): requirements.txt pyproject.toml
	@mkdir -p "$${HOME:-/root}"
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mlaas needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make setup PYTHON=python3.12"; exit 1; }
	@echo "Setting up $(VENV): about 6 GB in all, most of it torch. From half a minute to many, as fast as the network is."
	@echo "  1 of 3: a virtual environment with $$($(PYTHON) --version)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@awk '/^uv==/{keep=1} keep{print} keep && !/\\$$/{exit}' requirements.txt > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	@echo "  2 of 3: $$(grep -c '==' requirements.txt) packages, each with its pinned hash"
	@$(BIN)/uv pip sync --quiet --system-certs --python $(BIN)/python --require-hashes requirements.txt
	@echo "  3 of 3: mlaas itself, from this checkout"
	@$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "Done. Start the platform: $(BIN)/mlaas up"

check: setup
	ruff format --check .
	ruff check .
	mypy
	lint-imports --no-logo

# The S3 server of the tests is built by Go once, into a cache outside the checkout.
test: setup
	@$(BIN)/python -m tests.servers.s3
	pytest -q -m "not slow" -n 2 --dist loadfile

# What drives many processes or trains for minutes; .ci/run runs it after `make test`.
test-slow: setup
	@$(BIN)/python -m tests.servers.s3
	pytest -q -m slow

demo: setup
	@$(BIN)/python examples/affiliations/demo.py $(if $(KEEP),--keep) $(if $(OUT),--out "$(OUT)")

bench: setup
	@for program in benchmarks/*.py; do echo "== $$program"; $(BIN)/python $$program || exit 1; done

# The pins of requirements.txt, with hashes and without any index line.
lock: setup
	uv pip compile --quiet --system-certs --python-version 3.11 --python-platform x86_64-manylinux_2_28 --all-extras --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate pyproject.toml -o requirements.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
