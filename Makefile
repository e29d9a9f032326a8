.DEFAULT_GOAL := help
SHELL := /bin/sh
PY := .venv/bin/python
READY := .venv/.ready
# where Python is told to keep no bytecode, as many containers do, each process would compile all that it imports: 4 s
# for a server, and the tests start hundreds of processes
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test test-fast test-full test-vm lint format docs serve simulate fuzz drills soak bench bench-million clean

help: ## explain the commands
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(READY) ## .venv with the project, its launcher and all that the tests need

$(READY): pyproject.toml uv.lock scripts/setup.sh $(wildcard src/tidemill/node/launcher/*.[ch])
	sh scripts/setup.sh
	@touch $(READY)

demo: $(READY) ## deploy examples/sweep on a fresh server, run it, show the best results (KEEP=1 leaves the server running)
	$(PY) scripts/demo.py

test: $(READY) ## the whole suite, under 20 minutes on two cores
	sh scripts/browser.sh
	sh scripts/nftables.sh
	sh scripts/sandbox.sh
	sh scripts/containers.sh
	# a third process works while the others wait for servers
	$(PY) -m pytest -q -n 3 --durations 15

test-fast: $(READY) ## all but e2e and the simulator, under a minute
	$(PY) -m pytest -q -n 2 -m "not e2e" --ignore=tests/simulator

test-full: test drills ## the suite, then the long drills, and cron in every time zone
	$(PY) -m tests.unit.model.walked

test-vm: $(READY) ## cgroup v2, in an emulated machine: make test-vm KERNEL=/boot/vmlinuz-... (6 minutes)
	$(PY) scripts/guest.py "$(KERNEL)"

lint: $(READY) ## ruff, mypy --strict, the import contract
	.venv/bin/ruff format --check src tests scripts bench examples hatch_build.py
	.venv/bin/ruff check src tests scripts bench examples hatch_build.py
	.venv/bin/mypy
	.venv/bin/lint-imports

format: $(READY) ## let ruff put the code into shape
	.venv/bin/ruff format src tests scripts bench examples hatch_build.py
	.venv/bin/ruff check --fix src tests scripts bench examples hatch_build.py

docs: $(READY) ## write the generated reference pages (settings, states, access)
	$(PY) scripts/reference.py
	$(PY) -m tests.api.access_table

serve: $(READY) ## a server on port 8700 with its data in ./.data
	.venv/bin/tidemill server --data-dir .data

SEEDS ?= 100
FIRST ?= 1
simulate: $(READY) ## worlds full of trouble, as many as SEEDS says, from seed FIRST on (docs/simulator.md)
	$(PY) -m tidemill.testing.simulator $(SEEDS) $(FIRST) $(TRIGGERS)

fuzz: $(READY) ## Schemathesis holds a real server to /v0/openapi.json, 3 minutes (SECONDS=n SEED=n)
	$(PY) -m tests.e2e.described.run $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

drills: $(READY) ## at length: kill -9 at random, a node that is stopped, power cuts, a full disk (10 minutes)
	$(PY) -m tests.e2e.drills

MINUTES ?= 30
soak: $(READY) ## everything that users and machines do, for half an hour (MINUTES=n): nothing may grow, nothing may be left
	MINUTES=$(MINUTES) $(PY) -m tests.e2e.drills soak

bench: $(READY) ## docs/benchmarks.md, next to other programs (ARGS="--only tasks"); what requests, credentials, confinement cost
	sh scripts/peers.sh
	$(PY) -m bench.run $(ARGS)
	$(PY) -m bench.requests
	$(PY) -m bench.authentication
	$(PY) -m bench.confinement

bench-million: $(READY) ## a million tasks in one execution, most of them settled without running (ARGS="--whole": all of them)
	$(PY) -m bench.million $(ARGS)

clean: ## remove what the commands above made
	rm -rf .venv .clients .bench .demo .data src/tidemill/node/launcher/tidemill-launcher .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
