# Everything a person or a machine runs here. A bare machine needs Python 3.11+, pip and make: each target sets itself up.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
AUDIT  := .venv-audit
COVER  := .venv-coverage
CODE   := market lake runtime collectors transformer compactor features api client daemon cli simulator

# Hundreds of processes are started below: what one has compiled is there for the others (images like to forbid it).
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo run check check-types check-rules check-tests test test-faults coverage bench scale soak prove burst lock audit sbom clean

help: ## what the targets do
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

install: $(STAMP) ## .venv with every dependency (pinned by hash) and the command dl in it

$(STAMP): requirements-dev.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements-dev.txt
	$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || : # what pip would do on one core, their tests too
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: install ## a simulated exchange, the daemon, bars and a certified day in two minutes (DURATION=120 ends it)
	rm -rf demo-lake
	$(BIN)/python -m daemon --config config.yml --simulate --lake demo-lake $(if $(DURATION),--duration $(DURATION))
	@echo
	@echo "The lake it left is demo-lake. Try:  $(BIN)/dl ls --lake demo-lake   $(BIN)/dl gaps --lake demo-lake   $(BIN)/dl verify --lake demo-lake"

run: install ## the daemon with config.yml
	$(BIN)/python -m daemon --config config.yml

check: install ## ruff, mypy --strict, import contracts, budgets
	@$(MAKE) --no-print-directory -j 2 check-types check-rules

check-types:
	$(BIN)/mypy

check-rules:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -p no:randomly tests/test_architecture.py

check-tests: # what pytest makes of the tests is made once, before its workers need it; what is wrong with them they say
	@$(BIN)/python -m pytest -qq --collect-only -m "not slow" >/dev/null 2>&1 || :

test: install ## make check, then every test in random order, warnings as errors
	@$(MAKE) --no-print-directory -j 2 check-types check-tests check-rules
	PYTHONASYNCIODEBUG=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not slow" --durations=40 --durations-min=3

test-faults: install ## the whole catalogue of faults: every kill, 20,000 power cuts, 150 killed daemons; hours (ONLY=tests/faults/test_kills.py)
	@ls /usr/lib/*/faketime/libfaketime*.so.1 >/dev/null 2>&1 || { [ "$$(id -u)" = 0 ] && apt-get install -qq -y faketime >/dev/null; } \
	  || echo "faketime is not here (apt-get install faketime): the tests that move a real daemon's clock say so and are skipped"
	LAKE_FAULTS=full LAKE_FIGURES="make test-faults$(if $(ONLY), ONLY=$(ONLY))" PYTHONASYNCIODEBUG=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(or $(ONLY),tests/faults tests/properties tests/scripts tests/system/test_crash_anywhere.py tests/system/test_soak.py)
	test -n "$(ONLY)" || LAKE_FIGURES="make test-faults" PYTHONASYNCIODEBUG=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m slow --ignore=tests/faults --ignore=tests/properties --ignore=tests/scripts --ignore=tests/system/test_soak.py

coverage: install ## each line and branch of durable, manifest, recovery and ledger is run by tests (ALL=1: 90 % of everything too; RECORD=1 writes the figures)
	test -d $(COVER)/coverage || $(BIN)/python -m pip install --quiet --disable-pip-version-check --target $(COVER) coverage==7.17.3
	$(BIN)/python scripts/cover.py $(COVER) $(if $(ALL),--all) $(if $(RECORD),--record)

bench: install ## every stage against its peers (half an hour): bench-out/*.json, a page with plots, the figures of docs/performance.md
	for stage in ingest transform compact read history; do $(BIN)/python scripts/bench_$$stage.py --out bench-out/$$stage.json || exit; done
	$(BIN)/python scripts/scale_day.py --book --out bench-out/scale-book.json
	$(BIN)/python scripts/bench_page.py --table docs/performance.md

scale: install ## days of 500 symbols and of fewer, of several rates, of several days: files, bytes, memory, CPU (an hour)
	$(BIN)/python scripts/scale_day.py --curves --out bench-out/scale.json
	$(BIN)/python scripts/bench_page.py --table docs/performance.md

soak: install ## ten minutes under every network fault, then lake and truth compared (EXCHANGES=binance, or all; MINUTES=10 SYMBOLS=200 RATE=5000; RECORD=1 writes the figures)
	$(BIN)/python scripts/soak.py --exchanges $(or $(EXCHANGES),binance) --minutes $(or $(MINUTES),10) --symbols $(or $(SYMBOLS),200) --rate $(or $(RATE),5000) $(if $(RECORD),--record)

prove: install ## 30 days of every venue's past over 20 SIGKILLs, compared row by row with what simulated venues had (DAYS=30 KILLS=20; RECORD=1 writes the figures)
	$(BIN)/python scripts/prove_backfill.py --days $(or $(DAYS),30) --kills $(or $(KILLS),20) $(if $(RECORD),--record)

burst: install ## 60,000 frames a second for ten seconds (RECORD=1 writes the figures)
	$(BIN)/python scripts/soak.py --burst --out bench-out/burst $(if $(RECORD),--record)

lock: install ## requirements*.txt again from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --generate-hashes --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-find-links -o requirements.txt
	uv pip compile pyproject.toml --extra dev --generate-hashes --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-find-links -o requirements-dev.txt

audit: ## known vulnerabilities of what is locked (needs network; weekly, and before a release)
	test -x $(AUDIT)/bin/pip-audit || $(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	$(AUDIT)/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.txt
	$(AUDIT)/bin/pip-audit --strict --require-hashes --disable-pip -r requirements-dev.txt

sbom: install ## sbom.json: every locked package with version and hashes (CycloneDX; no network)
	$(BIN)/python scripts/sbom.py --out sbom.json

clean: ## remove what the targets made
	rm -rf $(VENV) $(AUDIT) $(COVER) sbom.json demo-lake bench-out .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
