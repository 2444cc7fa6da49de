# Everything here is plain cargo underneath. Needed: cargo, a C compiler, git, and a Linux kernel with user namespaces.
# What else a build needs comes, locked, into imagegen's tools tree. No root.

RECIPE  ?= appliances/base.toml
CARGO   ?= cargo
IMAGEGEN = $(CARGO) run --release --quiet -p imagegen --

.DEFAULT_GOAL := help
.PHONY: help imagegen run image check lint test unit-test fuzz fuzz-test qemu-test bench soak fault-report docs clean

help: ## Show this help
	@echo "make TARGET [RECIPE=appliances/NAME.toml]"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

imagegen: # Compiled where one can see it; run by the targets below
	$(CARGO) build --release -p imagegen

run: imagegen ## Build the appliance if needed and boot it here (Ctrl-C shuts it down)
	$(IMAGEGEN) run $(RECIPE)

image: imagegen ## Build the appliance's image into build/
	$(IMAGEGEN) build $(RECIPE)

check: imagegen ## Find everything wrong with the recipe and its units without building
	$(IMAGEGEN) check $(RECIPE)

test: lint unit-test fuzz-test qemu-test ## Run every check and test: format, lints, tests, some fuzzing, then boots under QEMU

lint: ## Check format and lints (and the dependencies' licences, where cargo-deny is installed)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null 2>&1; then $(CARGO) deny check; else echo "cargo-deny is not installed: dependencies are not judged"; fi

unit-test: ## Run the tests that boot nothing (with cargo-nextest where it is installed)
	$(CARGO) build -p imagegen
	$(CARGO) run --quiet -p imagegen -- tool --set judges --wrappers target/judges
	@export CAIRN_JUDGES="$(CURDIR)/target/judges"; if command -v cargo-nextest >/dev/null 2>&1; then \
	  $(CARGO) nextest run --workspace --exclude qemu-tests --no-fail-fast; \
	else $(CARGO) test --workspace --exclude qemu-tests --no-fail-fast; fi

fuzz: ## Fuzz each target for FUZZ_SECONDS (default 60); TARGETS="unit import" takes only these
	@CARGO="$(CARGO)" fuzz/run $(TARGETS)

fuzz-test: # A short sample of it; a machine without a C++ compiler goes on without
	@CARGO="$(CARGO)" FUZZ_SECONDS="$${FUZZ_SECONDS:-10}" FUZZ_WITHOUT_CXX=0 fuzz/run

qemu-test: ## Boot real images under QEMU and test them through their ports
	$(CARGO) build -p imagegen -p cairn
	@if command -v cargo-nextest >/dev/null 2>&1; then \
	  $(CARGO) nextest run -p qemu-tests --no-fail-fast; \
	else $(CARGO) test -p qemu-tests --no-fail-fast; fi

bench: ## Measure build, size, boot, upgrades and the supervisor beside their peers (BENCH_RUNS, default 3; PARTS=supervisor for one)
	$(CARGO) build --release -p imagegen -p cairn-bench -p cairn-panel
	$(CARGO) run --release --quiet -p cairn-bench -- $(PARTS)

soak: ## All power cuts, crash points of upgrades and kills of the manager, with reports in target/qemu-tests/soak*.md
	$(CARGO) build -p imagegen
	CAIRN_SOAK=1 $(CARGO) test -p qemu-tests --test boot -- --nocapture --include-ignored power_cut kill_of_the_manager a_version_that_works a_version_that_hangs

FAULTS = $${CARGO_TARGET_DIR:-target}/qemu-tests

fault-report: soak ## Run the soak and write docs/faults.md from its reports
	@{ echo "# What faults did"; echo; \
	  echo "Measured by \`make fault-report\`, which writes this page, at version $$(git describe --always --dirty)."; \
	  for part in first-boot upgrade kills; do echo; sed 's/^# /## /' "$(FAULTS)/soak-$$part.md"; done; \
	  echo; sed 's/^# /## /' "$(FAULTS)/soak.md"; } > docs/faults.md.new
	mv docs/faults.md.new docs/faults.md

docs: imagegen ## Write docs/units.md, docs/site.md and docs/control-api.md anew from the types
	$(IMAGEGEN) schema all --markdown > docs/units.md.new
	mv docs/units.md.new docs/units.md
	$(IMAGEGEN) schema site --markdown > docs/site.md.new
	mv docs/site.md.new docs/site.md
	$(CARGO) run --quiet -p cairn -- api --markdown > docs/control-api.md.new
	mv docs/control-api.md.new docs/control-api.md

clean: ## Remove what builds made here; the package cache stays (`imagegen cache gc` shrinks it)
	$(CARGO) clean
	rm -rf build
