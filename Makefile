# `make` lists the targets. They run in .venv, which the first call makes and later calls reuse.

DATASET ?= rig
PRESET ?= cpu
CORES  ?=
# A folder of workflow/profiles. Without it the preset chooses: gpu for paper, local for the others.
PROFILE ?=
# SEEDS=3 trains every network three times. Without it the dataset and the preset choose.
SEEDS  ?=
# FRESH=1 trains the networks that come with the package anew. RUNS is the folder of runs for make ship.
FRESH  ?=
RUNS   ?= runs
# Arguments for pytest, JupyterLab or dped study: make test ARGS="-k metrics", make lab ARGS=--no-browser.
ARGS   ?=
PYTHON ?= python3

PY := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup figures check test lab study book ship lock clean FORCE

help:
	@echo 'make figures   run the whole reproduction; save notebooks in runs/, pictures and tables in figures/'
	@echo '               DATASET=rig|pirm|city100|dped|own (now $(DATASET)), PRESET=cpu|smoke|paper (now $(PRESET)), CORES=n (default: all)'
	@echo '               PROFILE=local|gpu|slurm (default: gpu for PRESET=paper, else local); FRESH=1 trains the networks that come with the package anew'
	@echo '               SEEDS=n (trainings of each network; default: as dataset and preset say)'
	@echo 'make check     run ruff, the import contracts and the fast tests in three minutes'
	@echo 'make test      run all tests (ARGS="-k metrics" selects by name); DPED_MIRROR=folder adds tests on the authors'\'' files'
	@echo 'make lab       open the notebooks in JupyterLab'
	@echo 'make study     serve the user study as a web page for subjects (ARGS takes the options of dped study --help)'
	@echo 'make book      build the site in build/book/html: notebooks, tutorials, how-to pages, reference'
	@echo 'make setup     make only the environment .venv (PYTHON=python3.12 selects the Python)'
	@echo 'make ship      add the finished runs below RUNS=folder to those that ship with the package (for maintainers)'
	@echo 'make lock      update requirements.lock to the newest versions (ARGS=--keep: only add missing packages)'
	@echo 'make clean     remove .venv and caches; keep runs/ and figures/'

setup: .venv/.ready
	@echo "Ready: $$($(PY) --version) in .venv"

figures: .venv/.ready
	@.venv/bin/dped run all --dataset '$(DATASET)' --preset '$(PRESET)' $(if $(PROFILE),--profile '$(PROFILE)') $(if $(CORES),--cores '$(CORES)') $(if $(SEEDS),--set 'seeds=$(SEEDS)') $(if $(filter-out 0,$(FRESH)),--fresh)

check: .venv/.ready
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@PYTHONPATH=. .venv/bin/lint-imports --no-logo importlinter.toml
	@$(PY) -m pytest -n logical --no-loadscope-reorder -m 'not slow' $(ARGS)

test: .venv/.ready
	@$(PY) -m pytest -n logical --no-loadscope-reorder $(ARGS)

# A photograph is uploaded to a notebook in one message, which may exceed the server's default limit of 10 MB. In most
# containers the user is root, and JupyterLab refuses root unless told otherwise.
lab: .venv/.ready
	@$(PY) -m jupyterlab notebooks $(if $(filter 0,$(shell id -u)),--allow-root) --ServerApp.tornado_settings='{"websocket_max_message_size": 268435456}' $(ARGS)

study: .venv/.ready
	@.venv/bin/dped study --dataset '$(DATASET)' --preset '$(PRESET)' $(ARGS)

ship: .venv/.ready
	@$(PY) -m dped_lib.app.ship '$(RUNS)' $(ARGS)

# Sphinx reads the notebooks as they are stored and fetches nothing.
book: .venv/.ready
	@$(PY) docs/build.py

lock:
	@$(PYTHON) workflow/lock.py $(ARGS)

clean:
	rm -rf .venv build dped_companion.egg-info .pytest_cache .hypothesis .ruff_cache .import_linter_cache .snakemake/tmp*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# .venv/.ready is written last. It names the checkout and the Python of the environment. It is out of date if the lock or
# pyproject.toml is newer, if the checkout was moved, if the Python was changed or removed, or if PYTHON names another
# version. An environment without this file is incomplete and is made again, but only if .venv/.made-by-make shows that
# make began it, or if it is empty. Earlier versions left no such file, but an option in pyvenv.cfg.
WANTED := $(if $(filter file,$(origin PYTHON)),$(PY),$(PYTHON))
STATE  := $(CURDIR) $(shell $(WANTED) -c 'import platform; print(platform.python_version())' 2>/dev/null)
ifneq "$(STATE)" "$(shell cat .venv/.ready 2>/dev/null)"
.venv/.ready: FORCE
endif

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "This project needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 || true)." >&2; \
	    echo "If another Python is installed, name it: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@if [ -e .venv/.ready ] && $(PY) -c 'import pip' 2>/dev/null && \
	    [ "$$($(WANTED) -c 'import sys; print(sys.version_info[:2])')" = "$$($(PY) -c 'import sys; print(sys.version_info[:2])')" ]; \
	then touch .venv/.made-by-make && rm .venv/.ready; echo "[1/4] Bringing .venv up to date"; \
	elif { [ -e .venv ] || [ -L .venv ]; } && [ -n "$$(ls -A .venv 2>&1)" ] && ! [ -e .venv/.ready ] && \
	    ! [ -e .venv/.made-by-make ] && ! grep -qs '^command = .* -m venv --clear ' .venv/pyvenv.cfg; \
	then echo ".venv was not made by make, so it stays as it is. Move it away or delete it, and run make again." >&2; exit 1; \
	else echo "[1/4] Making .venv with $$($(PYTHON) --version)"; \
	    mkdir -p .venv && touch .venv/.made-by-make && rm -f .venv/.ready && \
	    find .venv/ -mindepth 1 -maxdepth 1 ! -name .made-by-make -exec rm -rf {} + && \
	    $(PYTHON) -m venv "$$(cd .venv && pwd -P)"; fi
	@echo "[2/4] Installing PyTorch (the largest part: 0.2 GB, or several with CUDA)"
	@$(PIP_INSTALL) "$$(grep '^torch==' requirements.lock)"
	@echo "[3/4] Installing $$(grep -c "^[A-Za-z]" requirements.lock) packages from requirements.lock (a minute or two)"
	@$(PIP_INSTALL) -r requirements.lock
	@echo "[4/4] Installing this project"
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@echo "$(CURDIR) $$($(PY) -c 'import platform; print(platform.python_version())')" > .venv/.ready

# pip shows progress bars on a terminal, and only errors in a log.
PIP_INSTALL = $(PY) -m pip install --disable-pip-version-check $$(test -t 2 || echo --quiet)
