# The manual of this project: `make` alone lists what it can do.
PYTHON ?= python3.11
DATA ?=
BENCH ?= latency --users 1
BIN := .venv/bin
PACKAGES := $(patsubst %/__init__.py,%,$(wildcard */__init__.py))
PYTEST := $(BIN)/python -m pytest
HERE := not gpu and not network and not recordings and not browser

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check docs up down bench

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: ## Install what is missing (demo and test do this first)
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is missing; run: sudo apt-get install python3.11 python3-venv"; exit 2; }
	@$(PYTHON) -m compose.local.setup

demo: setup ## The whole story on this machine; DATA=FOLDER for your own recordings
	@$(BIN)/soundscape demo $(if $(DATA),--data "$(DATA)")

test: setup ## The tests that need no GPU, no network and no recordings; about 13 minutes
	$(PYTEST) -m "not slow and $(HERE)" $(ARGS)

test-all: setup ## Every test that this machine can run, the slow ones too
	$(PYTEST) -m "$(HERE)" $(ARGS)

check: setup ## Lint and types
	$(BIN)/ruff check .
	$(BIN)/mypy --explicit-package-bases $(PACKAGES) tests

docs: setup ## Write what is made from the code: docs/asyncapi.json, docs/schemas, the tables in ARCHITECTURE.md
	@$(BIN)/python -m soundscape.tables

up: setup ## Start the stack
	@$(BIN)/soundscape up

down: ## Stop the stack; nothing is left running
	@$(BIN)/soundscape down

bench: setup ## Measure; BENCH="stream", "bare", "latency --users 8", "feedback", "change" or "shadow"
	@$(BIN)/soundscape bench $(BENCH)
