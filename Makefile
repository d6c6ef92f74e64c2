# Two commands do everything on a bare machine: `make run` and `make test`.
#
#   PYTHON=python3.12       another interpreter (3.11 to 3.13)
#   VENV=/somewhere/venv    another folder for the virtual environment
#   TORCH_INDEX=URL         another wheel index for torch and torchvision, such as that of CPU-only wheels
#   CONSTRAINTS=            the newest versions instead of those in constraints.txt
#   EXTRAS=dev              without the packages of detection and segmentation
PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
CONSTRAINTS ?= constraints.txt
EXTRAS ?= dev,dense
SUITES ?= suites/smoke.yaml

BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
PIN = $(if $(CONSTRAINTS),-c $(CONSTRAINTS))

.PHONY: run test lint setup clean

run: setup
	$(BIN)/python -m benchmark run $(SUITES)

# One process for each core, one thread each: on two cores this takes less than half the time of one process with two
# threads. With worksteal a process begins with consecutive tests, so that fixtures of a file are mostly made once, and
# takes tests from another process when its own are done, so that no core is idle at the end.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
		{ echo "$(PYTHON) is not Python 3.11, 3.12 or 3.13: make PYTHON=python3.12"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/pip install $(PIN) --index-url $(TORCH_INDEX) torch torchvision)
	$(BIN)/pip install $(PIN) -e '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
