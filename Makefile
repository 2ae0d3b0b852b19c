# Nostr Wallet Connect for Core Lightning. `make demo` shows it at work, `make test` checks it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := plugin.py nwc tests .bundle
BUNDLE_VENV := .bundle/.venv
# plugin.py checks its packages and loads them, as under lightningd.
CHECK = LIGHTNINGD_PLUGIN= $(BIN)/python plugin.py >/dev/null
# It writes a file, since `test -w` is always true for root.
must_be_writable = touch $(1)/.written && rm $(1)/.written || { \
  echo "User $$(id -un) cannot write to this folder. Copy it elsewhere or give it to that user, then try" \
    "again:" >&2; pwd >&2; exit 1; }
# Shows only the last lines of pip's errors, since its tracebacks help nobody. Without internet pip says
# that there is no such package. With --prefer-binary it takes an older version with a wheel, not a newer one without.
pip_install = $(BIN)/python -m pip install -q --disable-pip-version-check --prefer-binary -r $(1) 2>$(VENV)/pip.log || { \
  if grep -q "Retrying (" $(VENV)/pip.log; then \
    echo "The Python packages cannot be downloaded: pip does not reach its server ($(VENV)/pip.log tells more)." \
      "Without internet, see nwc/INSTALL.md: When make install fails." >&2; \
  else \
    grep -v "^ \|^Traceback\|^$$" $(VENV)/pip.log | tail -n 3 >&2; \
    echo "pip cannot install the Python packages for $$($(BIN)/python -c 'import platform as p; \
      print("Python", p.python_version(), "on", *p.libc_ver(), p.machine())'). The end of what it says is above," \
      "all of it in $(VENV)/pip.log. See nwc/INSTALL.md: When make install fails." >&2; \
  fi; exit 1; }
# Shows who can start the plugin if other users cannot enter a folder above it or above its Python.
say_who_can_start_it = closed=; for path in "$$(pwd -P)/$(BIN)" "$$(readlink -f $(BIN)/python)"; do \
  while [ "$$path" != / ]; do \
    [ -z "$$(find "$$path" -maxdepth 0 ! -perm -o=x)" ] || closed=$$path; \
    path=$$(dirname "$$path"); done; done; \
  [ -z "$$closed" ] || echo "lightningd can start the plugin only as user $$(id -un): other users cannot enter $$closed"

# Paths are UTF-8, whatever the locale.
export PYTHONUTF8 := 1

.PHONY: install bundle demo test lint unit plugin integration wire wheels bench soak clean

install: $(VENV)/installed
	@$(CHECK) 2>/dev/null || { \
	  echo "$(VENV) is incomplete; making it again …"; \
	  rm -rf $(VENV) 2>/dev/null || { \
	    echo "User $$(id -un) cannot delete $(VENV), which another user made. Run as root:" \
	      "rm -r $(VENV) - then try again in this folder:" >&2; pwd >&2; exit 1; }; \
	  $(MAKE) --no-print-directory $(VENV)/installed && $(CHECK); }
	@$(BIN)/python -c 'import os, shlex; \
	  print("Ready: lightningd --plugin=" + shlex.quote(os.path.abspath("plugin.py")))'
	@$(say_who_can_start_it)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import os; exit(":" in os.getcwd())' || { \
	  echo "A virtual environment cannot be in a folder whose path has a colon. Move or rename this" \
	    "folder and try again:" >&2; pwd >&2; exit 1; }
	@$(call must_be_writable,.)
	@if [ -e $(VENV) ]; then $(call must_be_writable,$(VENV)); fi
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "This Python cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "The virtual environment could not be made; the reason is above." >&2; rm -rf $(VENV); exit 1; }

$(VENV)/installed: nwc/requirements.txt | $(VENV)/bin/python
	@$(call must_be_writable,$(VENV))
	@echo "Installing Python packages into $(VENV) …"
	@# An old pip may fail in a newer Python, and uv installs none. Python brings a pip that works.
	@$(BIN)/python -m ensurepip --upgrade --default-pip >/dev/null 2>&1 || true
	@$(call pip_install,requirements.txt)
	@touch $@

$(VENV)/tests-installed: tests/requirements.txt $(VENV)/installed
	@echo "Installing the packages of the tests and the demo into $(VENV) …"
	@$(call pip_install,tests/requirements.txt)
	@touch $@

# A folder for machines without Python, for the processor architecture of the machine that makes it.
bundle: dist/built

dist/built: $(BUNDLE_VENV)/installed $(wildcard .bundle/*.*) $(shell find nwc -name '*.py')
	@$(BUNDLE_VENV)/bin/python .bundle/build.py
	@touch $@

$(BUNDLE_VENV)/installed: .bundle/requirements.txt
	@$(PYTHON) .bundle/build.py --check
	@echo "Installing Python packages into $(BUNDLE_VENV) …"
	@$(PYTHON) -m venv --clear $(BUNDLE_VENV)
	@$(BUNDLE_VENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	@touch $@

demo: $(VENV)/tests-installed
	@$(BIN)/python -m tests.demo $(if $(KEEP),--keep)

test: lint unit wire

lint: $(VENV)/tests-installed
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

unit: $(VENV)/tests-installed
	PYTHONASYNCIODEBUG=1 $(BIN)/python -m pytest tests/unit --cov=nwc --cov-branch --cov-report=term:skip-covered --cov-fail-under=97

plugin: $(VENV)/tests-installed
	$(BIN)/python -m pytest tests/wire -m double

integration: $(VENV)/tests-installed
	$(BIN)/python -m pytest tests/wire -m lightningd

# In one run, so that all skipped tests are listed at its end.
wire: $(VENV)/tests-installed
	$(BIN)/python -m pytest tests/wire tests/bundle

# Asks PyPI: has each package a wheel for every Python and processor that nwc/INSTALL.md names?
wheels: $(VENV)/tests-installed
	$(BIN)/python -m pytest tests/wheels

# BENCH=history or junk measures other things; hostile takes an hour.
BENCH ?= make_invoice
bench: $(VENV)/tests-installed
	$(BIN)/python -m tests.bench.$(BENCH) $(ARGS)

# Takes an hour, or less with ARGS="--minutes 10".
soak: $(VENV)/tests-installed
	$(BIN)/python -m tests.bench.soak $(ARGS)

clean:
	rm -rf $(VENV) $(BUNDLE_VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage tests/clients/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
