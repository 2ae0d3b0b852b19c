# Nostr Wallet Connect for Core Lightning. `make demo` shows it at work, `make test` checks it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := plugin.py nwc tests
# plugin.py looks at its packages and loads them, as under lightningd.
CHECK = LIGHTNINGD_PLUGIN= $(BIN)/python plugin.py >/dev/null
# Tried, since `test -w` always agrees with root.
must_be_writable = touch $(1)/.written && rm $(1)/.written || { \
  echo "User $$(id -un) cannot write to this folder. Copy it to where you can, or give it to that user, and try" \
    "again:" >&2; pwd >&2; exit 1; }

# Paths are UTF-8, whatever the locale.
export PYTHONUTF8 := 1

.PHONY: install demo test lint unit plugin integration wire wheels bench soak clean

install: $(VENV)/installed
	@$(CHECK) 2>/dev/null || { \
	  echo "$(VENV) is not complete; making it anew …"; rm -rf $(VENV); \
	  $(MAKE) --no-print-directory $(VENV)/installed && $(CHECK); }
	@$(BIN)/python -c 'import os, shlex; \
	  print("Ready: lightningd --plugin=" + shlex.quote(os.path.abspath("plugin.py")))'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import os; exit(":" in os.getcwd())' || { \
	  echo "A virtual environment cannot be in a folder whose path has a colon. Move or rename this" \
	    "folder and try again:" >&2; pwd >&2; exit 1; }
	@$(call must_be_writable,.)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "This Python cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "The virtual environment could not be made; the reason is above." >&2; rm -rf $(VENV); exit 1; }

$(VENV)/installed: nwc/requirements.txt | $(VENV)/bin/python
	@$(call must_be_writable,$(VENV))
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

# Asks PyPI: has each package a wheel for every Python and processor that the README names?
wheels: $(VENV)/tests-installed
	$(BIN)/python -m pytest tests/wheels

# BENCH=connections, relays, history or junk measures other things; hostile takes an hour.
BENCH ?= make_invoice
bench: $(VENV)/tests-installed
	$(BIN)/python -m tests.bench.$(BENCH) $(ARGS)

# An hour, unless ARGS="--minutes 10" says otherwise.
soak: $(VENV)/tests-installed
	$(BIN)/python -m tests.bench.soak $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage tests/clients/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
