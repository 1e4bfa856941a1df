# Each command sets up what it needs in .venv and nothing else.
#
#   make score                        draws a sample survey and scores it
#   make score SURVEY=their/photos    scores photographs into ./report
#   make train DATASET=their/patches  trains a model into ./models (WEIGHTS=file.h5 without internet)
#   make check                        lint, types and the tests that start no service: two to three minutes
#   make test                         lint, types and every test: about 25 minutes on two cores
#   make bench                        speed, as ratios measured in one run
#   make lock                         every lock file, after a change of the dependencies in pyproject.toml

PYTHON ?= $(shell command -v python3.11 || command -v python3)
SURVEY ?=
REPORT ?= report
DATASET ?=
WEIGHTS ?=
BIN := .venv/bin

# What people type is handed on as it is, to make and to the shell alike: folders have quotes and dollars in their names.
override SURVEY := $(value SURVEY)
override REPORT := $(value REPORT)
override DATASET := $(value DATASET)
override WEIGHTS := $(value WEIGHTS)
export SURVEY REPORT DATASET WEIGHTS

.PHONY: score train check test lint bench lock clean
.DELETE_ON_ERROR:

score: .venv/.ready-to-score
ifeq ($(strip $(SURVEY)),)
	$(BIN)/crackmodel sample sample-survey
	$(BIN)/python -m flows.score sample-survey --report "$$REPORT"
else
	$(BIN)/python -m flows.score "$$SURVEY" --report "$$REPORT"
endif

train: .venv/.ready-to-develop
	$(BIN)/python -m flows.train "$$DATASET" $(if $(WEIGHTS),--weights "$$WEIGHTS") --promote

# In the groups and the order of tests/conftest.py. Three at a time starve each other's Ray heads on two cores.
GROUPED = --dist loadgroup --no-loadscope-reorder

check: lint
	$(BIN)/python -m pytest -n 2 $(GROUPED) -m "not integration"

test: lint
	$(BIN)/python -m pytest -n 2 $(GROUPED) --cov --cov-fail-under=95 --durations=25

lint: .venv/.ready-to-develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: .venv/.ready-to-develop
	$(BIN)/python -m tests.benchmarks.throughput

# Compiled here, because not every process may: where Python is told to write no bytecode, or .venv is read-only,
# each of Ray's and Prefect's processes would compile its thousands of modules at every start.
# Scoring needs no TensorFlow, so it is ready in a third of the time.
.venv/.ready-to-score: requirements-score.lock pyproject.toml | .venv/bin/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements-score.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

.venv/.ready-to-develop: requirements.lock pyproject.toml | .venv/bin/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@ .venv/.ready-to-score

# uv installs in seconds what pip installs in minutes; pip installs uv, by the hashes in the lock.
.venv/bin/uv:
	$(PYTHON) -m venv .venv
	sed -n '/^uv==/,/# via/p' requirements-score.lock > .venv/uv.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement .venv/uv.txt

# Dependencies are resolved here and nowhere else. All locks agree: the others are bound by the first. The first
# two set up a checkout, the last three a container image: for scoring, for training, and for training with a GPU.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"
BOUND = $(COMPILE) --constraint requirements.lock --extra build

lock: .venv/bin/uv
	$(COMPILE) --all-extras pyproject.toml -o requirements.lock
	$(BOUND) pyproject.toml -o requirements-score.lock
	$(BOUND) --extra cluster pyproject.toml -o deploy/requirements-cluster.lock
	$(BOUND) --extra cluster --extra train pyproject.toml -o deploy/requirements-train.lock
	echo "tensorflow[and-cuda]" | $(BOUND) --extra cluster --extra train pyproject.toml - -o deploy/requirements-gpu.lock

clean:
	rm -rf .venv sample-survey
