# make run | make check | make test | make bench      what each needs is installed first when that is possible: see scripts/need

CACHE := $(or $(ORRERY_CACHE),$(HOME)/.cache/orrery)
PREFIX ?= $(if $(filter 0,$(shell id -u)),/usr/local,$(HOME)/.local)
export PATH := $(CACHE)/tools/bin:$(HOME)/.cargo/bin:$(PATH)

# A checkout that is thrown away after each run keeps what it has compiled outside.
ifdef CI
export CARGO_TARGET_DIR ?= $(CACHE)/target
endif
TARGET := $(or $(CARGO_TARGET_DIR),target)

BUILD := cargo cc:build-essential
TESTS := $(BUILD) git go:golang-go initdb:postgresql redis-server:redis-server mariadbd:mariadb-server wrk:wrk python3:python3 venv:python3-venv node:nodejs npm:npm curl:curl

.PHONY: run install check lint test bench tools

# Settings go after ARGS: make run ARGS="--listen 127.0.0.1:9090"
run: install
	exec $(PREFIX)/bin/orrery serve $(ARGS)

install:
	scripts/need $(BUILD)
	cargo build --release --locked --package orrery
	mkdir -p $(PREFIX)/bin
	install -m 755 $(TARGET)/release/orrery $(PREFIX)/bin/orrery.new
	mv -f $(PREFIX)/bin/orrery.new $(PREFIX)/bin/orrery

check: lint tools
	cargo nextest run --locked --workspace --lib --bins --no-fail-fast

lint:
	scripts/need $(BUILD) git
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	cargo xtask tidy

test: lint tools
	scripts/need $(TESTS)
	cargo xtask railway-cli
	cargo xtask generate --check
	cargo nextest run --locked --workspace --no-fail-fast

bench:
	scripts/need $(TESTS) taskset:util-linux
	cargo xtask bench

tools:
	scripts/need $(BUILD)
	cargo nextest --version >/dev/null 2>&1 || cargo install cargo-nextest --locked --root $(CACHE)/tools
