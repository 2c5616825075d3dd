# The manual of this project: `make` alone lists what it can do.
PYTHON ?= python3.11
DATA ?=
BENCH ?= latency --users 1
BIN := .venv/bin
PACKAGES := $(patsubst %/__init__.py,%,$(wildcard */__init__.py))
PYTEST := $(BIN)/python -m pytest
HERE := not gpu and not network and not recordings and not browser
STACK := tests/integration tests/faults tests/e2e
APART := $(filter-out $(STACK),$(patsubst %/,%,$(wildcard tests/[a-z]*/)))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all tests check docs up down bench

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: ## Install what is missing (demo and test do this first)
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is missing; run: sudo apt-get install python3.11 python3-venv"; exit 2; }
	@$(PYTHON) -m compose.local.setup

demo: setup ## The whole story on this machine; DATA=FOLDER for your own recordings
	@$(BIN)/soundscape demo $(if $(DATA),--data "$(DATA)")

test: OFTEN = not slow and
test: tests ## The tests that need no GPU, no network and no recordings; about 9 minutes

test-all: tests ## Every test that this machine can run, the slow ones too

# What needs a stack waits more than it works: the tests that need none run beside it, and say at the end what they found.
# ARGS=PATH runs what is named instead.
tests: setup
ifdef ARGS
	$(PYTEST) -m "$(OFTEN) $(HERE)" $(ARGS)
else
	@apart=$$(mktemp); trap 'rm -f $$apart' EXIT; \
	$(PYTEST) -m "$(OFTEN) $(HERE)" $(APART) >$$apart 2>&1 & beside=$$!; \
	$(PYTEST) -m "$(OFTEN) $(HERE)" $(STACK); stack=$$?; \
	wait $$beside; beside=$$?; cat $$apart; exit $$((stack | beside))
endif

check: setup ## Lint and types
	$(BIN)/ruff check .
	$(BIN)/mypy --explicit-package-bases $(PACKAGES) tests

docs: setup ## Write what is made from the code: docs/asyncapi.json, docs/schemas, the tables in ARCHITECTURE.md
	@$(BIN)/python -m soundscape.tables

up: setup ## Start the stack
	@$(BIN)/soundscape up

down: ## Stop the stack; nothing is left running
	@$(BIN)/soundscape down

bench: setup ## Measure; BENCH="stream", "latency --users 8", "feedback", "change" or "shadow"
	@$(BIN)/soundscape bench $(BENCH)
