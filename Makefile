# A thin front for people: meson does the work, in build*/. Packages are installed where they are
# missing (Debian; with sudo where not root).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
# A test that hangs is ended by its own timeout, not by people.
TEST := meson test --no-rebuild --print-errorlogs --num-processes $(JOBS)

.PHONY: help run build test check-long bench install deb lint format clean

help:
	@echo "make run         build cached and run it in the foreground on the default socket"
	@echo "make test        build with sanitizers and run every test in its short form"
	@echo "make check-long  the full counts, more compilers and sanitizers, valgrind, fuzzing"
	@echo "make bench       measure, against redis-server and memcached"
	@echo "make install     install the release build below PREFIX ($(PREFIX))"
	@echo "make deb         Debian packages, in build-deb/; how to install them is printed"
	@echo "make lint        formatting, static analysis and the rules of tests/lint"
	@echo "make format      apply .clang-format"
	@echo "make clean       remove build*/"

# The release build. Assertions stay in: they are cheap and they stop a bug from spreading.
build:
	@.ci/install build
	@.ci/setup build --prefix=$(PREFIX) -Dbuildtype=release -Db_ndebug=false -Dtests=disabled
	@echo "Building in build/"
	@ninja -C build --quiet

run: build
	@.ci/serve build

test:
	@.ci/install build test
	@.ci/setup build-test -Doptimization=1 -Ddebug=true -Dwerror=true -Dtest-clock=true -Dtests=enabled \
		-Db_sanitize=address,undefined -Db_lundef=false
	@.ci/python-env build-test/python-env
	@ninja -C build-test --quiet
	@$(TEST) -C build-test

check-long:
	@.ci/install build test ci
	@.ci/check-long

bench:
	@.ci/install build test bench
	@.ci/setup build-bench -Dbuildtype=release -Db_ndebug=false -Dtests=enabled -Dbench=enabled
	@ninja -C build-bench --quiet
	@CACHED_BUILD=build-bench tests/bench/run --json build-bench/bench.json

install: build
	@meson install -C build --no-rebuild --quiet
	@.ci/installed build

deb:
	@.ci/install build deb
	@.ci/deb $(JOBS)

lint:
	@.ci/install build test ci
	@.ci/lint

format:
	@.ci/install ci
	@find daemon proto client tests -name '*.[ch]' -print0 | xargs -0 clang-format-14 -i

clean:
	rm -rf build build-*
