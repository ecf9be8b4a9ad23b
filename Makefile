# Everything starts from a machine that has only Python and make: each target first makes the environment it needs.

PYTHON ?= python3
DEMO_DIR ?= demo_output
PYTEST_ARGS ?=
# A process for each processor; a file's tests may run in any of them.
PARALLEL ?= -n auto --dist worksteal
# Kept out of make_venv's call, where its comma would end an argument.
TFX = ".[dev,tfx]"
LOWEST_TF = "tensorflow==2.18.*" "tf-keras==2.18.*" "tensorflow-metadata<1.18"
NEWEST_TF = "tensorflow==2.21.*" "tf-keras==2.21.*"

# An environment belongs to one setup.py, one folder and one Python. Its READY file is written last, so that an
# installation which broke off is never taken for a good one.
READY := ready-$(shell { cat setup.py; pwd; $(PYTHON) --version; } | cksum | cut -d' ' -f1)
PY = .venv/bin/python

# $(call make_venv,FOLDER,WHAT TO INSTALL)
define make_venv
	rm -rf $(1)
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install $(2)
	touch $(1)/$(READY)
endef

.PHONY: help install demo test test-slow test-long test-tfx test-lowest-tf test-newest-tf wheel test-wheel lint format typecheck benchmark clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/$(READY):
	$(call make_venv,.venv,-e ".[dev]")

install: .venv/$(READY) ## make .venv with the package (editable) and the development tools

demo: install ## make data, train, evaluate and export xDeepInt and query it once; all under demo_output/
	$(PY) -m xdeepint_ext.experiments.demo --output_dir=$(DEMO_DIR)

test: install ## run the default tests
	$(PY) -m pytest $(PARALLEL) -m "not slow" $(PYTEST_ARGS)

test-slow: install ## run the slow tests but the longest
	$(PY) -m pytest $(PARALLEL) -m "slow and not long" $(PYTEST_ARGS)

test-long: install ## run the slow tests that take minutes each: killed clusters, equal weights, questions learned by heart
	$(PY) -m pytest -m long $(PYTEST_ARGS)

.venv-tfx/$(READY):
	$(call make_venv,.venv-tfx,-e $(TFX))

test-tfx: .venv-tfx/$(READY) ## run the tests of the extra tfx, and those of Beam, which it brings
	.venv-tfx/bin/python -m pytest tests/tfx tests/data/test_beam.py $(PYTEST_ARGS)

.venv-lowest-tf/$(READY):
	$(call make_venv,.venv-lowest-tf,-e ".[dev]" $(LOWEST_TF))

test-lowest-tf: .venv-lowest-tf/$(READY) ## run the default tests on the oldest supported TensorFlow (Python <= 3.12)
	.venv-lowest-tf/bin/python -m pytest $(PARALLEL) -m "not slow" $(PYTEST_ARGS)

.venv-newest-tf/$(READY):
	$(call make_venv,.venv-newest-tf,-e ".[dev]" $(NEWEST_TF))

test-newest-tf: .venv-newest-tf/$(READY) ## run the default tests on the newest supported TensorFlow
	.venv-newest-tf/bin/python -m pytest $(PARALLEL) -m "not slow" $(PYTEST_ARGS)

wheel: install ## build dist/*.whl and check what is in it
	rm -rf build dist
	$(PY) -m build --wheel
	$(PY) .ci/check_wheel.py dist/*.whl

.venv-wheel/$(READY): | wheel
	$(call make_venv,.venv-wheel,"$$(ls $(CURDIR)/dist/*.whl)[dev]")

# The tests run from a folder that holds them alone, so that only the installed wheel can be imported.
test-wheel: wheel .venv-wheel/$(READY) ## run the default tests against the installed wheel
	.venv-wheel/bin/python -m pip install --quiet --force-reinstall --no-deps dist/*.whl
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	cp -r tests $(wildcard examples) pyproject.toml "$$folder" && cd "$$folder" && \
	XDEEPINT_DATA="$(abspath $(or $(XDEEPINT_DATA),../shared/data))" \
	$(CURDIR)/.venv-wheel/bin/python -m pytest $(PARALLEL) -m "not slow" $(PYTEST_ARGS)

lint: install ## check style and format
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: install ## repair style and format where that can be done automatically
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

typecheck: install ## run mypy on the package
	$(PY) -m mypy

benchmark: install ## measure speed (benchmarks/README.md says what and how)
	$(PY) -m benchmarks

clean: ## remove environments, caches and what was built
	rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
