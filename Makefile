# Everything that is done with this tree, by name. Needs a Rust toolchain; installs the rest with apt, as root or by sudo.

.DEFAULT_GOAL := help
.PHONY: help run demo test simulate soak power fuzz lint bench package clean

# Where cargo puts what it builds.
TARGET := $(or $(CARGO_TARGET_DIR),target)
# The points at which the crash tests end a process.
FAILPOINTS := keywheel/failpoints,keywheel-rotators/failpoints

help: ## Says what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

run: ## Starts the daemon on a scratch folder: an nginx password file, turned over every 15 s
	@packaging/setup.sh build demo
	cargo build --workspace --bins
	@packaging/demo/htpasswd.sh $(TARGET)/debug

demo: ## The same with a PostgreSQL of its own, and an application that logs in through rotations
	@packaging/setup.sh build postgres
	cargo build --workspace --bins
	@packaging/demo/postgres.sh $(TARGET)/debug $(ROTATIONS)

test: ## Runs every test, the crash tests and the tests of the installed package among them
	@packaging/setup.sh build test
	@if cargo nextest --version >/dev/null 2>&1; then set -x; \
	  cargo nextest run --workspace --features $(FAILPOINTS) --no-fail-fast --test-threads $$(($$(nproc) * 2)); \
	else set -x; \
	  cargo test --workspace --features $(FAILPOINTS) --no-fail-fast; \
	fi

simulate: ## Runs the engine through SEEDS worlds full of faults, or tells SEED in full; and the model through every order
	@packaging/setup.sh build
	KEYWHEEL_SEEDS=$(or $(SEEDS),20000) $(if $(SEED),KEYWHEEL_SEED=$(SEED)) \
	  cargo test --profile simulate -p keywheel --test simulate --test model -- --nocapture $(if $(SEED),every_seed)

soak: ## Kills the daemon KILLS times at random moments for each of five real kinds (300: half an hour)
	@packaging/setup.sh build test
	cargo build --workspace --bins --features $(FAILPOINTS)
	KEYWHEEL_KILLS=$(or $(KILLS),300) cargo test -p keywheel --features $(FAILPOINTS) --test outside soak_ \
	  -- --ignored --nocapture --test-threads 5

power: ## Cuts the power CUTS times on each of three file systems (or at all requests), and kills at every call
	@packaging/setup.sh build test power
	cargo build --workspace --bins --features $(FAILPOINTS)
	for fs in ext4 xfs btrfs; do KEYWHEEL_FILE_SYSTEM=$$fs KEYWHEEL_CUTS=$(or $(CUTS),all) \
	  cargo test -p keywheel --features $(FAILPOINTS) --test outside power::i1 -- --nocapture || exit; done
	KEYWHEEL_EVERY_HIT=1 cargo test -p keywheel --features $(FAILPOINTS) --test outside calls:: -- --nocapture --test-threads 4

fuzz: ## Fuzzes what is read from outside: MINUTES (20) for each of TARGETS (all seven), as many at a time as there are cores
	@packaging/setup.sh build fuzz
	@packaging/fuzz.sh $(or $(MINUTES),20) $(TARGETS)

lint: ## Formatting, clippy, and what the tree depends on
	@packaging/setup.sh build lint
	cargo fmt --all --check
	cargo fmt --manifest-path tests/fuzz/Cargo.toml --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --all-targets --features $(FAILPOINTS) -- -D warnings
	.cache/tools/bin/cargo-deny --workspace check bans licenses sources

bench: ## Measures, and prints each figure beside its bar
	@packaging/setup.sh build
	cargo build --release --workspace --bins
	cargo bench --quiet -p keywheel --bench store --bench fetch --bench idle
	cargo bench --quiet -p keywheel-rotators --bench rotate

package: ## Builds the .deb in target/debian
	@packaging/setup.sh build package
	@packaging/deb.sh release

clean: ## Removes what was built; tools in .cache stay
	@# Made by root.
	@[ ! -d $(TARGET)/test-rootfs ] || rm -rf --one-file-system $(TARGET)/test-rootfs 2>/dev/null || \
	  sudo rm -rf --one-file-system $(TARGET)/test-rootfs
	cargo clean
