# The two commands: `make sandbox` tries it all on this machine, `make test` checks all of it.
# Both begin from nothing on a fresh Debian 12 (as root, or as a user who may use sudo) and can be
# called again. `make help` lists the rest.

# Every program that is shipped, in one place.
PROGRAMS := onedock onedock-datastore onedock-tm onedock-vmm onedock-im \
            onedock-runtime onedock-node onedock-init
# The crates that they are in. What root runs is built by itself: built together with the drivers, it
# would be given the features that they ask of the crates they share (an engine client, a resolver).
CRATES   := onedock onedock-datastore onedock-tm onedock-vmm onedock-im
ROOT_CRATES := onedock-node onedock-init

ARCH   := $(shell uname -m)
TARGET := $(ARCH)-unknown-linux-gnu
SUDO   := $(if $(filter 0,$(shell id -u)),,sudo ONE_LOCATION='$(ONE_LOCATION)')
DIST   := dist/bin
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin

.PHONY: help
help:
	@echo 'make sandbox        engine, registry, bridge and one VM on this machine'
	@echo 'make sandbox-down   take all of that away again'
	@echo 'make test           every check and test, with the real engine and registry'
	@echo 'make test-sandbox   make sandbox and sandbox-down on a copy of this machine, compared before and after'
	@echo 'make test-vm        one walk in a virtual machine with Debian'"'"'s own kernel (RELEASE=bookworm|trixie)'
	@echo 'make test-vm-sandbox  the sandbox in such a machine; make test-vm-all: both in both releases'
	@echo 'make test-engines   the tests of the engine with the engines of Debian 12, 13 and unstable'
	@echo 'make test-killed    a hundred starts whose runtime is killed'
	@echo 'make bench          what a deploy and what keeping disks costs, against the engine by hand'
	@echo 'make build          the static programs, in $(DIST)'
	@echo 'make deny           licences and advisories of the dependencies (cargo-deny)'
	@echo 'make clean          what was built'

.PHONY: sandbox
sandbox: tools build
	$(SUDO) packaging/sandbox/up.sh $(DIST)

.PHONY: sandbox-down
sandbox-down:
	$(SUDO) packaging/sandbox/down.sh $(DIST)

.PHONY: tools
tools:
	@$(SUDO) packaging/sandbox/tools.sh

# Static, so that one build serves every distribution.
.PHONY: build
build:
	@echo '==> building the programs'
	RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked \
	    --target $(TARGET) $(foreach crate,$(CRATES),-p $(crate))
	RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked \
	    --target $(TARGET) $(foreach crate,$(ROOT_CRATES),-p $(crate)) \
	    --no-default-features --features onedock-node/root
	@mkdir -p $(DIST)
	@for program in $(PROGRAMS); do \
	    install -m 755 "target/$(TARGET)/release/$$program" "$(DIST)/.$$program" && \
	    mv "$(DIST)/.$$program" "$(DIST)/$$program" || exit 1; \
	done
	@echo '==> the programs are in $(DIST)'

# The tests run as root: they need an engine and network namespaces of their own.
.PHONY: test
test: test-deps
	packaging/test.sh

.PHONY: test-deps
test-deps:
	@$(SUDO) packaging/test-deps.sh

# A copy in namespaces: neither an engine nor a sandbox of this machine is touched. And a Debian that
# has Docker from docker.com keeps it.
.PHONY: test-sandbox
test-sandbox: test-deps build
	$(SUDO) tests/sandbox/run.sh
	$(SUDO) tests/sandbox/docker_ce.sh

# The engines that Debian 12, 13 and unstable have, the newest with both of its image stores.
.PHONY: test-engines
test-engines: test-deps build
	cargo nextest list --workspace --locked >/dev/null
	$(SUDO) tests/engines/run.sh all

# A hundred starts, whose runtime is killed at as many moments; make test has 16.
.PHONY: test-killed
test-killed: test-deps
	ONEDOCK_KILLED_STARTS=100 CARGO_TARGET_$(shell echo $(TARGET) | tr a-z- A-Z_)_RUNNER="$(if $(SUDO),$(SUDO) -E,env)" \
	    cargo nextest run --locked -p onedock-node -E 'test(at_any_moment)'

# A virtual machine with a Debian as its installer leaves it, 12 (bookworm) or 13 (trixie).
RELEASE := bookworm
.PHONY: test-vm test-vm-sandbox
test-vm: tools build
	$(SUDO) tests/vm/run.sh walk $(RELEASE)
test-vm-sandbox: tools build
	$(SUDO) tests/vm/run.sh sandbox $(RELEASE)

.PHONY: test-vm-all
test-vm-all: tools build
	for release in bookworm trixie; do \
	    $(SUDO) tests/vm/run.sh sandbox $$release && $(SUDO) tests/vm/run.sh walk $$release || exit 1; \
	done

# Ratios side by side in one run, on the static programs; as root.
.PHONY: bench
bench: tools build test-deps
	cargo build --locked -p onedock-benches
	$(SUDO) target/debug/onedock-benches $(DIST)
	CARGO_TARGET_$(shell echo $(TARGET) | tr a-z- A-Z_)_RUNNER="$(if $(SUDO),$(SUDO),env)" cargo bench --locked -p onedock-node --bench plug

.PHONY: deny
deny:
	cargo deny --locked check

.PHONY: clean
clean:
	cargo clean
	rm -rf dist
