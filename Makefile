# `make` lists what there is. Everything runs in .venv, which the first call makes and the next ones reuse.

DATASET   ?= rig
PRESET ?= smoke
CORES  ?=
# Of workflow/profiles: at the paper's settings the trainings share one GPU by turns.
PROFILE ?= $(if $(filter paper,$(PRESET)),gpu,local)
# Arguments handed on to pytest, JupyterLab or dped study: make test ARGS="-k metrics", make lab ARGS=--no-browser.
ARGS   ?=
PYTHON ?= python3

PY := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup figures check test lab study lock clean FORCE

help:
	@echo 'make figures   run the whole reproduction: notebooks into runs/, pictures and tables into figures/'
	@echo '               DATASET=rig|pirm|city100|dped|own (now $(DATASET)), PRESET=smoke|cpu|paper (now $(PRESET)), CORES=n (default: all)'
	@echo '               PROFILE=local|gpu|slurm (now $(PROFILE))'
	@echo 'make check     look for errors in three minutes: ruff, the order of imports, every quick test'
	@echo 'make test      run every test (ARGS="-k metrics" picks some); DPED_MIRROR=folder adds the real photographs'
	@echo 'make lab       open the notebooks in JupyterLab'
	@echo 'make study     serve the user study as a page for subjects (ARGS="--folder my_pictures", or what dped study --help lists)'
	@echo 'make setup     only make the environment .venv (PYTHON=python3.12 picks the Python)'
	@echo 'make lock      resolve requirements.lock anew (ARGS=--keep: only add what is missing)'
	@echo 'make clean     remove .venv and caches; runs/ and figures/ stay'

setup: .venv/.ready
	@echo "Ready: $$($(PY) --version) in .venv"

figures: .venv/.ready
	@.venv/bin/dped run all --dataset '$(DATASET)' --preset '$(PRESET)' --profile '$(PROFILE)' $(if $(CORES),--cores '$(CORES)')

check: .venv/.ready
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@PYTHONPATH=. .venv/bin/lint-imports --no-logo importlinter.toml
	@$(PY) -m pytest -n logical --no-loadscope-reorder -m 'not slow' $(ARGS)

test: .venv/.ready
	@$(PY) -m pytest -n logical --no-loadscope-reorder $(ARGS)

# A photograph that is uploaded to a notebook comes in one message: more than the server's usual 10 MB.
lab: .venv/.ready
	@$(PY) -m jupyterlab notebooks --ServerApp.tornado_settings='{"websocket_max_message_size": 268435456}' $(ARGS)

study: .venv/.ready
	@.venv/bin/dped study --dataset '$(DATASET)' --preset '$(PRESET)' $(ARGS)

lock:
	@$(PYTHON) workflow/lock.py $(ARGS)

clean:
	rm -rf .venv build dped_companion.egg-info .pytest_cache .hypothesis .ruff_cache .import_linter_cache .snakemake/tmp*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# .venv/.ready is written last and says which checkout and Python it was made for. It is out of date when the lock or
# pyproject.toml is newer, when the checkout has moved, when its Python has changed or gone, and when PYTHON is given
# and is another version. An environment without it was not finished, and is made anew.
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
	then rm .venv/.ready; echo "[1/4] Bringing .venv up to date"; \
	else rm -f .venv/.ready; echo "[1/4] Making .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear .venv; fi
	@echo "[2/4] Installing PyTorch (the largest part: 0.2 GB, or several with CUDA)"
	@$(PIP_INSTALL) "$$(grep '^torch==' requirements.lock)"
	@echo "[3/4] Installing $$(grep -c "^[A-Za-z]" requirements.lock) packages from requirements.lock (a minute or two)"
	@$(PIP_INSTALL) -r requirements.lock
	@echo "[4/4] Installing this project"
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@echo "$(CURDIR) $$($(PY) -c 'import platform; print(platform.python_version())')" > .venv/.ready

# On a terminal pip shows its progress bars; in a log only what goes wrong.
PIP_INSTALL = $(PY) -m pip install --disable-pip-version-check $$(test -t 2 || echo --quiet)
