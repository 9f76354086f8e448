# make demo      prepares the embedded model, trains it, evaluates it and shows the result
# make test      runs all tests that need no GPU; installs Chromium (a system package) if it is missing
# make test-fast runs the tests that need no model, no browser and no other process, without importing unsloth
# make test-gpu  runs the tests that need a GPU
# make bench     compares the speed with other ways; takes over an hour on two cores, which must be idle
# make style     checks lint and formatting
# Each target first installs missing requirements into .venv.

VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/installed
# Without compiling all modules: most of them are never imported.
PIP_INSTALL := $(PYTHON) -m pip install --quiet --no-compile
REQUIREMENTS := requirements.txt requirements-no-deps.txt requirements-dev.txt
# This file exists while pip runs. If it is left over, .venv is rebuilt, because pip does not detect half-written packages.
UNFINISHED := $(VENV)/unfinished

export PYTHONPATH := $(CURDIR)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-fast test-gpu bench assets style chromium

demo: $(INSTALLED) assets
	rm -rf runs/demo
	$(PYTHON) fine_tune_dpo.py --json_file args/demo/dpo_arg.json
	$(PYTHON) evaluate.py --json_file args/demo/evaluate_arg.json

test: $(INSTALLED) chromium
	$(PYTHON) -m pytest -q -n 2 --dist loadfile -m "not gpu" tests

test-fast: $(INSTALLED)
	TEST_BACKEND=transformers $(PYTHON) -m pytest -q -m "not gpu and not slow" tests

test-gpu: $(INSTALLED)
	$(PYTHON) -m pytest -q -m gpu tests

bench: $(INSTALLED) assets
	$(PYTHON) -m pip install --quiet -r benchmarks/requirements.txt
	$(PYTHON) -m response_generator.demo.pair_classifiers
	$(PYTHON) benchmarks/generation.py
	$(PYTHON) benchmarks/preferences.py
	$(PYTHON) benchmarks/dpo.py

assets: $(INSTALLED)
	$(PYTHON) -m response_generator.demo

style: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# The report is tested in a real browser. It is installed here on Debian and Ubuntu; install it yourself elsewhere.
chromium:
	@command -v chromium || command -v chromium-browser || command -v google-chrome \
	|| { SUDO=$$(test "$$(id -u)" = 0 || echo sudo); $$SUDO apt-get update -qq \
	&& DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -qq -y --no-install-recommends chromium >/dev/null; } \
	|| { echo "make test needs Chromium to test the report: install it, then run make test again"; exit 1; }

$(INSTALLED): $(REQUIREMENTS)
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	@test ! -e $(UNFINISHED) || rm -rf $(VENV)
	@test -x $(PYTHON) || python3 -m venv $(VENV)
	@touch $(UNFINISHED)
	$(PIP_INSTALL) -r requirements.txt -r requirements-dev.txt
	$(PIP_INSTALL) --no-deps -r requirements-no-deps.txt
	@rm $(UNFINISHED)
	@touch $@
