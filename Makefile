# Two commands: `make demo` and `make test`. Both set everything up by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FOLDERS := service workers models configs takestream tests docs examples
# Without the advertisement for another program that its theme prints.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

# Keys, tokens and passwords have shapes of their own; digests and words of our tests look random.
NO_ENTROPY := --disable-plugin KeywordDetector --disable-plugin Base64HighEntropyString \
    --disable-plugin HexHighEntropyString

.PHONY: help install demo serve-demo test test-all torture faults coverage check audit format docs changelog bench fuzz clean

help: ## show what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed ## make .venv from the lock, with the `takestream` command in it

$(VENV)/.installed: requirements.lock pyproject.toml scripts/install
	@scripts/install "$(PYTHON)" "$(VENV)"
	@touch $@

demo: install ## the main job, end to end, on the example data set with an embedded S3 server
	@exec $(BIN)/takestream demo

serve-demo: install ## the HTTP service on the example data set; prints its URL
	@exec $(BIN)/takestream serve-demo

# A process for each core: most tests wait for a disk, a server or a start as often as they compute.
SHARED := -n logical --maxprocesses 4

test: install ## all tests
	@$(BIN)/python -m pytest $(SHARED)

test-all: install ## the slow ones too
	@$(BIN)/python -m pytest $(SHARED) -m "slow or not slow"

torture: install ## jobs killed at random moments: N=20 SEED=1, ARGS=--services
	@$(BIN)/python -m tests.torture $(N) $(SEED) $(ARGS)

faults: install ## jobs over a storage that fails at random: N=20 SEED=1
	@$(BIN)/python -m tests.faults $(N) $(SEED)

coverage: install ## lines that the tests run, in Ray's workers too
	$(BIN)/coverage erase
	PYTHONPATH=tests/support/coverage $(BIN)/coverage run -m pytest
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --skip-covered

check: install ## format, lint, types, import contracts, secrets, documentation
	$(BIN)/ruff format --check $(FOLDERS)
	$(BIN)/ruff check $(FOLDERS)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	@git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook $(NO_ENTROPY)
	$(MKDOCS) build --strict -d build/docs

audit: install ## known weaknesses of the locked packages; asks the network, so no part of check
	@$(BIN)/python -m pip install -q pip-audit
	@$(BIN)/pip-audit --no-deps --disable-pip -r requirements.lock

format: install ## format and sort imports
	$(BIN)/ruff format $(FOLDERS)
	$(BIN)/ruff check --fix $(FOLDERS)

docs: install ## the documentation, into site/
	@$(MKDOCS) build --strict
	@echo "site/index.html"

changelog: install ## CHANGELOG.md from the subjects of the commits
	@$(BIN)/git-cliff -o CHANGELOG.md

fuzz: install ## damaged films through the extractor: N=200 SEED=0
	@$(BIN)/python -m tests.fuzz --n $(or $(N),200) --seed $(or $(SEED),0)

bench: install ## the benchmarks; ratios taken in one run
	$(BIN)/python -m tests.benchmarks.stages --json build/bench.json --chart build/bench.svg
	$(BIN)/python -m tests.benchmarks.stages --size 3840x2160 --streams 2 --frames 120 --rounds 3
	$(BIN)/python -m tests.benchmarks.remote
	$(BIN)/python -m tests.benchmarks.runtimes
	$(BIN)/python -m tests.benchmarks.reference
	$(BIN)/python -m tests.benchmarks.memory --minutes 1 5
	$(BIN)/python -m tests.benchmarks
	$(BIN)/python -m tests.benchmarks.service
	$(BIN)/python -m tests.benchmarks.evaluate
	$(BIN)/python -m tests.benchmarks.windows
	$(BIN)/python -m tests.benchmarks.startup
	$(BIN)/python -m tests.benchmarks.dispatch --json build/dispatch.json
	$(BIN)/python -m tests.benchmarks.simulate --json build/simulate.json

clean: ## forget the set-up and the demo
	rm -rf $(VENV) demo site build
