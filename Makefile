# Nostr Wallet Connect for Core Lightning. `make demo` shows it at work, `make test` checks it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := plugin.py nwc tests

.PHONY: install demo test lint unit plugin integration wire bench soak clean

install: $(VENV)/installed
	@$(BIN)/python -c 'import pyln.client, websockets, coincurve' 2>/dev/null || { \
	  echo "$(VENV) was made by another Python; making it anew …"; rm -rf $(VENV); $(MAKE) --no-print-directory $(VENV)/installed; }
	@echo "Ready: lightningd --plugin=$(CURDIR)/plugin.py"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "No virtual environment; on Debian: apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }

$(VENV)/installed: requirements.txt | $(VENV)/bin/python
	@echo "Installing Python packages into $(VENV) …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/tests-installed: tests/requirements.txt $(VENV)/installed
	@echo "Installing what the tests and the demo need into $(VENV) …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r tests/requirements.txt
	@touch $@

demo: $(VENV)/tests-installed
	@$(BIN)/python -m tests.demo $(if $(KEEP),--keep)

test: lint unit wire

lint: $(VENV)/tests-installed
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

unit: $(VENV)/tests-installed
	PYTHONASYNCIODEBUG=1 $(BIN)/python -m pytest tests/unit --cov=nwc --cov-branch --cov-report=term:skip-covered

plugin: $(VENV)/tests-installed
	$(BIN)/python -m pytest tests/plugin

integration: $(VENV)/tests-installed
	$(BIN)/python -m pytest tests/integration

# Both at once: what was skipped stands at the end, below what ran.
wire: $(VENV)/tests-installed
	$(BIN)/python -m pytest tests/plugin tests/integration

# BENCH=connections, relays, history or junk measures other things.
BENCH ?= make_invoice
bench: $(VENV)/tests-installed
	$(BIN)/python -m tests.bench.$(BENCH) $(ARGS)

# An hour, unless ARGS="--minutes 10" says otherwise.
soak: $(VENV)/tests-installed
	$(BIN)/python -m tests.bench.soak $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage tests/clients/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
