# Each target does all its set-up: scripts/with_env makes or finds the environment and builds the package.
WITH_ENV := scripts/with_env
BENCHES := $(filter bench-%,$(MAKECMDGOALS))
.DEFAULT_GOAL := help
.PHONY: help demo test env build lint bench $(BENCHES) clean clean-all

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

demo: ## a simulated robot drives, the map is rebuilt live and compared with the truth (about 4 minutes)
	@$(WITH_ENV) ros2 launch spatial_fm_ros demo.launch.py $(ARGS)

test: ## all tests; ARGS="-k name" for some of them
	@$(WITH_ENV) pytest test $(ARGS)

env: ## make or check the environment and build the package
	@$(WITH_ENV) true && echo "ready: run anything with $(WITH_ENV) COMMAND"

build: ## build the package afresh
	@$(WITH_ENV) --rebuild true

lint: ## ruff on everything, mypy on the core
	@$(WITH_ENV) ruff check .
	@$(WITH_ENV) mypy

bench: ## all benchmarks but the long soak, docs/benchmarks.md; `make bench-NAME` for one, bench-all for all
	@$(WITH_ENV) scripts/bench $(ARGS)

$(BENCHES): bench-%:
	@$(WITH_ENV) scripts/bench $* $(ARGS)

clean: ## remove this checkout's build
	@scripts/with_env --clean

clean-all: ## remove the build and every environment made by this package
	@scripts/with_env --clean-all
