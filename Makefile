# `make help` lists what there is. Every target sets up .venv first where that is needed.

ARGS ?=
BIN := .venv/bin
AUDIT := .venv/audit/bin
PACKAGES := orchestrator workers webhooks
READY := .venv/ready
PEERS := .venv/peers
PEERS_LOCK := bench/peers/requirements.txt

# Set up anew as well when the checkout has moved, or the python inside is gone or too old.
USABLE := $(shell test "$$(cat $(READY) 2>/dev/null)" = "$$(pwd -P)" && \
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo yes)

.PHONY: help demo bench chaos hostile audit test lint format containers secrets lock clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## run the main job for real, on this machine alone (ARGS="--exit" stops at the end)
	@$(BIN)/orchestrator demo $(ARGS)

bench: $(READY) $(PEERS)/ready ## measure the product on this machine, all of it (ARGS="--help" lists the parts; ARGS="all --quick")
	@$(BIN)/python -m bench $(ARGS)

chaos: $(READY) ## break everything for 10 minutes, then account for every job (ARGS="--short", "--seed 7")
	@$(BIN)/python -m tests.chaos $(ARGS)

test: lint ## every check, then the tests (ARGS goes to pytest)
	@$(BIN)/python -m pytest --numprocesses 5 --dist loadfile --no-loadscope-reorder $(ARGS)

hostile: $(READY) ## attack the receiver with 100,000 requests (ARGS="--requests 20000 --seed 2")
	@$(BIN)/python -m tests.hostile $(ARGS)

audit: $(READY) ## look for known vulnerabilities of what requirements.lock names (needs the network)
	@test -x $(AUDIT)/pip-audit || { $(BIN)/python -m venv .venv/audit && \
		$(AUDIT)/python -m pip install --quiet --disable-pip-version-check 'pip-audit==2.10.1'; }
	@$(AUDIT)/pip-audit --requirement requirements.lock --require-hashes --disable-pip $(ARGS)

lint: $(READY) ## style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(PACKAGES)
	@$(BIN)/lint-imports

format: $(READY) ## put the code into our format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

containers: $(READY) ## run docker-compose.yml for real, kill what can be killed, account for every job (needs Docker)
	@$(BIN)/python -m tests.containers $(ARGS)

secrets: ## make what docker-compose.yml needs: secrets/ and .env; what is there stays
	@sh deploy/secrets.sh

lock: ## write the three files of locked requirements again, with uv (ARGS="--upgrade": newer versions)
	@uv --version >/dev/null 2>&1 || { echo 'make lock needs uv: python3 -m pip install uv' >&2; exit 1; }
	@uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra dev \
		--no-emit-index-url --custom-compile-command 'make lock' $(ARGS) pyproject.toml -o requirements.lock
	@echo setuptools | uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
		--extra report --extra s3 --extra tracing --constraints requirements.lock --no-emit-index-url \
		--custom-compile-command 'make lock' $(ARGS) pyproject.toml - -o deploy/requirements.lock
	@uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url \
		--custom-compile-command 'make lock' $(ARGS) bench/peers/requirements.in -o $(PEERS_LOCK)
	@! grep -nE 'https?:|file:' requirements.lock deploy/requirements.lock $(PEERS_LOCK)

clean: ## remove .venv, caches and what demo and bench left; jobs and artifacts stay
	@rm -rf .venv build dist *.egg-info htmlcov .coverage demo-output bench-output
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find $(PACKAGES) bench tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(READY): requirements.lock pyproject.toml deploy/bootstrap.sh
	@sh deploy/bootstrap.sh

# What others would write today, which `make bench` compares us with, in an environment of their own.
$(PEERS)/ready: $(PEERS_LOCK) | $(READY)
	@rm -rf $(PEERS)
	@$(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement $(PEERS_LOCK)
	@touch $@

ifneq ($(USABLE),yes)
.PHONY: $(READY)
endif
