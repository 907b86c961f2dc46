# Everything a newcomer needs: `make demo`, `make test`. Each target can be repeated and skips what is done.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
APPTAINER := $(or $(XDG_DATA_HOME),$(HOME)/.local/share)/aworld/apptainer/usr/bin# by scripts/apptainer.sh; a site's own comes first
export PATH := $(CURDIR)/$(BIN):$(PATH):$(wildcard $(APPTAINER))
unexport PYTHONDONTWRITEBYTECODE # each of a thousand short processes would compile aworld anew

# Three pytest workers on two cores: while one waits for Slurm, the others compute. A file stays with one worker, in the
# order of tests/conftest.py.
WORKERS ?= 3
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help install demo test test-fast test-rest test-all test-gpu test-packages minutes bench bench-rivals baseline killer cluster cluster-stop cluster-packages tool-packages lint format lock lock-gpu clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'
	@awk -F ' *= *' '/^\[/ {gsub(/[][]| *#.*/, ""); printf "  minutes of %s:", $$0} /=/ {gsub(/"/, ""); printf "  %s %s", $$1, $$2} /^$$/ {print ""} END {print ""}' tests/minutes.toml

$(VENV)/.installed: scripts/install.sh pyproject.toml requirements-cpu.lock
	@PYTHON=$(PYTHON) VENV=$(VENV) sh scripts/install.sh

install: $(VENV)/.installed ## install everything into .venv

demo: $(VENV)/.installed ## run the whole loop on this machine and print what was learned
	@$(BIN)/python jobs/pipeline.py recipe=demo site=local $(ARGS)

test: $(VENV)/.installed test-packages ## unit tests to one real round on Slurm with Apptainer: 13 minutes
	@$(PYTEST) -m "not deep and not gpu" --minutes test $(ARGS)

test-fast: $(VENV)/.installed ## only the unit tests: 4 minutes
	@$(PYTEST) -m unit --minutes fast $(ARGS)

test-rest: $(VENV)/.installed test-packages ## what make test leaves out: 23 minutes
	@$(PYTEST) -m deep --minutes rest $(ARGS)

test-all: test test-rest minutes ## every test that this machine can run: 35 minutes

minutes: ## the minutes of the last test runs by tier, beside those that tests/minutes.toml keeps
	@$(BIN)/python tests/minutes.py

test-packages:
	-@$(MAKE) --no-print-directory cluster-packages tool-packages

test-gpu: $(if $(GPU_PYTHON),,$(VENV)/.installed) ## the tests for one NVIDIA GPU, by a Python with CUDA: GPU_PYTHON=/path/to/python
	@$(or $(GPU_PYTHON),$(BIN)/python) -m pytest -m gpu -rs $(ARGS)

bench: $(VENV)/.installed test-packages ## measure against bounds and simple rivals, into docs/benchmarks.md: 30 minutes
	@$(BIN)/python benchmarks/bench.py $(ARGS)

bench-rivals: $(VENV)/.installed test-packages ## episodes, training step and evaluation beside other systems, each in an environment of its own: 35 minutes once they are installed
	@$(BIN)/python benchmarks/bench.py --rivals $(ARGS)

baseline: $(VENV)/.installed ## seconds of an episode, a tool server and a training step beside this machine kind's baseline: 2 minutes
	@$(BIN)/python benchmarks/baseline.py $(ARGS)

killer: $(VENV)/.installed ## whole runs on a private Slurm under a random killer: ARGS="--kills 200"
	@$(BIN)/python benchmarks/faults.py $(ARGS)

cluster-packages: ## install Slurm and Apptainer for the tests, where this user may
	@sh scripts/cluster-packages.sh
	@bash scripts/apptainer.sh

tool-packages: ## install the programs that tools drive, where this user may
	@sh scripts/tool-packages.sh

images/environment.sif: $(VENV)/.installed $(wildcard containers/environment.*) containers/install.sh requirements-cpu.lock \
		$(shell find src/aworld/tools -name "*.py")
	@$(BIN)/python tests/environment_image.py $@

cluster: $(VENV)/.installed images/environment.sif ## start a private Slurm of four virtual nodes on this machine
	@$(BIN)/python tests/cluster/cluster.py start

cluster-stop: ## end it, with its jobs
	@$(BIN)/python tests/cluster/cluster.py stop

lint: $(VENV)/.installed ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(VENV)/.installed ## let ruff format and mend
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lock: $(VENV)/.installed ## write the versions installed now to requirements-cpu.lock
	@$(BIN)/python -m pip freeze --exclude-editable --exclude uv | grep -v '^torch==' > requirements-cpu.lock

lock-gpu: $(VENV)/.installed ## write the versions of a GPU site to requirements-gpu.lock, near those of requirements-cpu.lock
	@$(BIN)/python -m pip install -q "uv>=0.8,<1"
	@cp requirements-cpu.lock requirements-gpu.lock # uv keeps the versions that fit
	@$(BIN)/uv pip compile -q --python-version 3.11 --no-annotate --no-header --extra gpu --extra media \
		--extra chess --extra tensorboard --extra wandb -o requirements-gpu.lock pyproject.toml >/dev/null
	@sed -i 's/^torch==/torch===/' requirements-gpu.lock # "==" would also allow 2.13.0+cpu

clean: ## remove the demo's run directory (other runs and the environment stay)
	rm -rf runs/demo
