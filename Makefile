# make run | make service | make check | make test | make bench | make web      what each needs is installed first when that is possible: see scripts/need

CACHE := $(or $(ORRERY_CACHE),$(HOME)/.cache/orrery)
PREFIX ?= $(if $(filter 0,$(shell id -u)),/usr/local,$(HOME)/.local)
export PATH := $(CACHE)/tools/bin:$(HOME)/.cargo/bin:$(PATH)

# A checkout that is thrown away after each run keeps what it has compiled outside. It never compiles the same file twice and
# nobody debugs its programs, so records for either would only cost time and fill the disk.
ifdef CI
export CARGO_TARGET_DIR ?= $(CACHE)/target
export CARGO_INCREMENTAL ?= 0
export CARGO_PROFILE_DEV_DEBUG ?= none
endif
TARGET := $(or $(CARGO_TARGET_DIR),target)

BUILD := cargo cc:build-essential
TESTS := $(BUILD) git go:golang-go initdb:postgresql redis-server:redis-server mariadbd:mariadb-server wrk:wrk python3:python3 venv:python3-venv node:nodejs npm:npm curl:curl chromium:chromium ffmpeg:ffmpeg pebble:pebble

.PHONY: run install service check lint test bench tools web

# Settings go after ARGS: make run ARGS="--listen 127.0.0.1:9090"
run: install
	exec $(PREFIX)/bin/orrery serve $(ARGS)

install:
	scripts/need $(BUILD)
	$(MAKE) web || echo "make: the dashboard is left out; the API and the command line do without it" >&2
	cargo build --release --locked --package orrery
	mkdir -p $(PREFIX)/bin
	install -m 755 $(TARGET)/release/orrery $(PREFIX)/bin/orrery.new
	mv -f $(PREFIX)/bin/orrery.new $(PREFIX)/bin/orrery

# As root, where systemd is: starts with the machine. What runs already goes on with the new program. A unit that differs, be it edited or of
# an earlier version, is kept beside the new one.
UNIT := /etc/systemd/system/orrery.service
service: install
	sed 's|/usr/local/bin/|$(PREFIX)/bin/|' scripts/orrery.service > $(UNIT).new
	if [ -e $(UNIT) ] && ! cmp -s $(UNIT) $(UNIT).new; then \
		cp -p $(UNIT) $(UNIT).old; \
		echo "make: $(UNIT) was another; it is kept as $(UNIT).old. Changes belong into a drop-in: systemctl edit orrery" >&2; \
	fi
	mv -f $(UNIT).new $(UNIT)
	systemctl daemon-reload
	systemctl enable orrery
	systemctl restart orrery
	@sleep 3; systemctl is-active --quiet orrery || { journalctl --no-pager --unit orrery --lines 20; echo "make: orrery does not run" >&2; exit 1; }
	@echo "orrery runs; \`orrery login-link\` prints a link to log in with"

check: lint tools
	cargo nextest run --locked --workspace --lib --bins --no-fail-fast

lint:
	$(if $(CI),scripts/trim $(TARGET))
	scripts/need $(BUILD) git
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	cargo xtask tidy

test: lint tools web
	scripts/need $(TESTS)
	cargo xtask railway-cli
	cargo xtask generate --check
	cargo nextest run --locked --workspace --no-fail-fast

bench: web
	scripts/need $(TESTS) taskset:util-linux
	cargo xtask bench

tools:
	scripts/need $(BUILD)
	cargo nextest --version >/dev/null 2>&1 || cargo install cargo-nextest --locked --root $(CACHE)/tools

# The dashboard. It becomes part of the program: see docs/ARCHITECTURE.md.
web: web/dist/index.html.gz

web/dist/index.html.gz: web/node_modules/.package-lock.json surface/galaxy.graphql surface/railway.graphql web/index.html web/explorer.html web/terminal.html $(shell find web/src web/scripts web/public web/*.ts web/package.json -type f)
	cd web && npm run build

web/node_modules/.package-lock.json: web/package-lock.json
	scripts/need node20:nodejs npm:npm
	cd web && npm ci --no-audit --no-fund
	touch $@
