# Each target works on a fresh clone: it installs first where needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install run test browser check bench
install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "avbench needs Python 3.11 or newer: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --progress-bar on -e '.[train,encodec,test]'
	touch $(STAMP)

# Zero-skill floor, the classical codecs, AVTok and the linear control on 101 real clips; then the table, and a page to look at and listen to. Resumes where it was stopped.
run: install
	$(BIN)/avbench run --tokenizer static-frame+silence --split arcade-mini --save-samples 8
	$(BIN)/avbench run --tokenizer h264-opus --split arcade-mini --save-samples 8
	$(BIN)/avbench run --tokenizer avtok --split arcade-mini --save-samples 8
	$(BIN)/avbench run --tokenizer pca-vq --split arcade-mini --save-samples 8
	$(BIN)/avbench table --split arcade-mini
	$(BIN)/avbench report --split arcade-mini --out site

# A process of one thread for every core; a file's tests stay in one of them, so that what they share is made once.
test: install
	$(BIN)/avbench weights pull i3d-k400 alexnet vgg16 aisfx hifigan-universal dists dnsmos plcmos
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

# Chromium for the tests of the report, into the system: Debian or Ubuntu, as root. Without it they are skipped.
browser:
	scripts/browser.sh

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python benchmarks/known_answers.py
	$(BIN)/python benchmarks/breakdown.py
	$(BIN)/python benchmarks/memory.py
