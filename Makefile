# Two commands do everything on a bare machine: `make run` and `make test`.
#
#   PYTHON=python3.12       another interpreter (3.11 to 3.13)
#   VENV=/somewhere/venv    another place for the virtual environment
#   TORCH_INDEX=URL         another wheel index for torch and torchvision, for CPU-only wheels say
#   CONSTRAINTS=            newest versions instead of those in constraints.txt
#   EXTRAS=dev              without what detection and segmentation need
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

# One process a core, one thread each: on two cores less than half the time of one process with two threads. Each begins
# with a stretch of the tests, so that what a file's tests share is mostly made once, and takes over a part of another's
# when it is done: no core is idle at the end.
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
