# `make demo` and `make test` work on a fresh clone: each sets up .venv first, from the versions in constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WHEEL_VENV := .venv-wheel
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
WORKERS ?= 2
WHEEL_TEST = CHARPY_INSTALLED_COPY=1 $(WHEEL_VENV)/bin/python -m pytest -p no:cacheprovider tests/packaging tests/third_party

THIRD_PARTY := $(shell find tests/third_party -name '*.py' -o -name pyproject.toml 2>/dev/null)
SOURCES := $(shell find core plugins models -type f -not -path '*/__pycache__/*') pyproject.toml README.md LICENSE

.PHONY: demo setup test lint check coverage wheel-test test-slow docs bench mutation clean

demo: setup
	$(BIN)/charpy assess digits-cnn --data digits --certify 15 --out demo

setup: $(VENV)/.installed

# torch first: the pinned release, before any other package can ask for another one. torchattacks alone: it asks for a
# torchvision that it never imports.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch hatchling
	$(PIP) --no-build-isolation --editable '.[dev]'
	$(PIP) --no-deps torchattacks
	touch $@

$(VENV)/.third-party: $(VENV)/.installed $(THIRD_PARTY)
	$(PIP) --no-deps --no-build-isolation --force-reinstall ./tests/third_party
	touch $@

test: lint check wheel-test docs

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# One torch thread a worker: the workers share the cores already.
check: $(VENV)/.third-party
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m 'not slow' -rs

# Lines and branches of the parts that everything rests on, group by group; fails below the limits in pyproject.toml.
coverage: $(VENV)/.third-party
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/covered.py --workers $(WORKERS)

# What takes longer than a few seconds, and has a quicker test beside it; CI runs it after `make test`.
test-slow: $(VENV)/.third-party $(WHEEL_VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m slow -rs --timeout 900
	$(WHEEL_TEST) -m slow

# The wheel and the stranger's package, really installed in an environment of their own; only the dependencies are
# taken from .venv, through a .pth line, so that nothing is downloaded twice.
wheel-test: $(WHEEL_VENV)/.installed
	$(WHEEL_TEST) -m 'not slow'

$(WHEEL_VENV)/.installed: $(VENV)/.installed $(SOURCES) $(THIRD_PARTY)
	rm -rf dist
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . ./tests/third_party
	$(PYTHON) -m venv --clear --without-pip $(WHEEL_VENV)
	$(BIN)/python -m pip --disable-pip-version-check --python $(WHEEL_VENV)/bin/python install --quiet --no-deps dist/*.whl
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$($(WHEEL_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"
	touch $@

# The documentation as pages that ask nobody for anything, in build/site; a broken link or name ends it.
docs: $(VENV)/.docs
	$(BIN)/python docs/staging.py stage
	$(BIN)/zensical build --strict --clean
	$(BIN)/python docs/staging.py check

$(VENV)/.docs: $(VENV)/.installed
	$(PIP) --no-build-isolation --editable '.[docs]'
	touch $@

bench: setup
	$(BIN)/python benchmarks/main_job.py
	$(BIN)/python benchmarks/dual_vs_art.py

# Mutants of the judge and the oracle; fails where the tests kill fewer than 80 % of either's.
mutation: setup
	$(PIP) --no-build-isolation --editable '.[mutation,dev]'
	$(BIN)/python benchmarks/mutation.py

clean:
	rm -rf $(WHEEL_VENV) dist build demo .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
