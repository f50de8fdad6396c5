# The verbs of this house. Everything happens inside .venv; nothing else on the machine is touched, but by make brokers.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
N ?= 20
ENGINE ?= file

.DEFAULT_GOAL := help
.PHONY: help demo test lint types brokers format generate capabilities crash powercut bench clean

help:
	@echo "make demo        install and run the demonstration"
	@echo "make test        everything a change must pass: lint, types, tests, also on real brokers (see: make brokers)"
	@echo "make lint        ruff, the import floors, generated files up to date"
	@echo "make types       mypy --strict"
	@echo "make brokers     install what the tests start: redis-server, rabbitmq-server (Debian, root; runs no service)"
	@echo "make format      put the code into the house format"
	@echo "make generate    make the blocking client and the page of the language"
	@echo "make capabilities    run the conformance suite on all engines, for docs/capabilities.md"
	@echo "make crash N=20      kill real processes N times and check the histories; ENGINE=nats, redis, rabbitmq: the"
	@echo "                     broker, too"
	@echo "make powercut N=20   cut the power of a loop-mounted disk N times (root)"
	@echo "make bench       print speed as ratios against other systems"
	@echo "make clean       remove what the verbs made"

# Installing happens once per change of pyproject.toml: a stamp remembers it.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/tidings demo

# pytest comes last, so that its summary closes the output.
test: lint types
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/generate_blocking.py --check
	$(BIN)/python scripts/generate_language.py --check

types: $(VENV)/.installed-dev
	$(BIN)/mypy

brokers:
	scripts/install_brokers.sh

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: $(VENV)/.installed-dev
	$(BIN)/python scripts/generate_blocking.py
	$(BIN)/python scripts/generate_language.py
	$(BIN)/python scripts/generate_capabilities.py --page

capabilities: $(VENV)/.installed-dev
	$(BIN)/python scripts/generate_capabilities.py

crash: $(VENV)/.installed-dev
	$(BIN)/python -m tests.crash.campaign --runs $(N) --engine $(ENGINE)

powercut: $(VENV)/.installed-dev
	$(BIN)/python -m tests.crash.powercut --cuts $(N)

bench: $(VENV)/.installed-bench
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
