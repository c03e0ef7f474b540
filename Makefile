# One command per wish; HACKING.md says more. `make` alone lists them.
SHELL := /bin/bash
BUILD := .build/release
MARGAY := $(BUILD)/margay
LAB ?= demo
export SWIFT_BACKTRACE ?= enable=no

.PHONY: help build man completions demo down test test-long unit e2e-short fuzz sanitize sanitize-address sanitize-thread goldens bench clean

help:
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

build: ## both executables, optimised, in .build/release
	@scripts/prepare build
	@scripts/build

demo: ## a small datacenter in network namespaces, with traffic; KEEP=1 leaves it standing, DATASTORE=etcd
	@scripts/prepare demo
	@scripts/build
	@$(MARGAY) lab demo --name $(LAB) $(if $(KEEP),--keep) $(if $(DATASTORE),--datastore $(DATASTORE))

down: ## remove a lab that was kept (LAB=name)
	@$(MARGAY) lab down --name $(LAB)

test: ## units, contracts, kernel tests and the demo
	@scripts/prepare test
	@scripts/test

unit: ## only the Swift tests; FILTER=BGP selects
	@scripts/prepare test
	@swift test --no-parallel $(if $(FILTER),--filter $(FILTER))

test-long: ## the tests in their full size and every fuzz target; TIME=seconds for each; the result is kept in Benchmarks/RESULTS.md
	@scripts/prepare test
	@scripts/test-long $(or $(TIME),60)

e2e-short: ## the short end-to-end set beyond `make test`
	@scripts/prepare test
	@scripts/e2e-short

fuzz: ## every decoder against hostile octets; TIME=seconds for each, TARGET=json for one
	@scripts/prepare build
	@scripts/fuzz $(or $(TIME),60) $(TARGET)

sanitize: sanitize-address sanitize-thread ## the Swift tests under both sanitizers

sanitize-address: ## the Swift tests under AddressSanitizer and LeakSanitizer; FILTER=BGP selects
	@scripts/prepare test
	@scripts/sanitize address $(FILTER)

sanitize-thread: ## the Swift tests under ThreadSanitizer; FILTER=BGP selects
	@scripts/prepare test
	@scripts/sanitize thread $(FILTER)

goldens: ## rewrite expected outputs, for review as a diff
	@UPDATE_GOLDENS=1 swift test --no-parallel

bench: ## figures beside our peers', kept in Benchmarks/RESULTS.md; ONLY=routes,cni prints some; ENDPOINTS=250; JSON=1
	@scripts/prepare bench
	@scripts/bench $(if $(ONLY),--only $(ONLY),--results Benchmarks/RESULTS.md) $(if $(ENDPOINTS),--endpoints $(ENDPOINTS)) $(if $(JSON),-o json)

man: ## manual pages, in .build/release/man, from the commands' own words
	@scripts/build
	@$(MARGAY) manual $(BUILD)/man && echo "$(BUILD)/man: $$(ls $(BUILD)/man | wc -l) pages; try man -l $(BUILD)/man/margay.1"

completions: ## completion scripts of bash, zsh and fish, in .build/release/completions
	@scripts/build
	@mkdir -p $(BUILD)/completions
	@$(MARGAY) completion bash >$(BUILD)/completions/margay
	@$(MARGAY) completion zsh >$(BUILD)/completions/_margay
	@$(MARGAY) completion fish >$(BUILD)/completions/margay.fish

clean: ## remove what was built
	@rm -rf .build .build-fuzz .build-asan .build-tsan .build-mutants
