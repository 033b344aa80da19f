# SPDX-License-Identifier: Apache-2.0
# Every target does the set-up that it needs; a second run skips what is done.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
STAMPS := $(VENV)/.stamps

# Debian 12; what the kernel needs is in the kernel. SYSTEMD_OFFLINE keeps the routing daemons,
# which the tests start in namespaces of their own, from being started on the machine.
PACKAGES := gcc libc6-dev linux-libc-dev libbpf-dev libelf-dev clang-19 llvm-19 clang-format-19 \
	iproute2 iptables nftables bird2 frr gobgpd strace containernetworking-plugins
KERNEL_PACKAGES := qemu-system-x86 busybox-static kmod cpio xz-utils

PYTEST := $(BIN)/python -m pytest

.PHONY: setup build demo test test-long test-kernels bench bench-results bench-report wheel lint format docs clean

setup: $(STAMPS)/python build

$(STAMPS)/packages: Makefile
	@missing=$$(dpkg-query -W -f='$${Status} $${Package}\n' $(PACKAGES) 2>/dev/null | \
		awk '/install ok installed/ {print $$4}'); \
	want=$$(for p in $(PACKAGES); do echo "$$missing" | grep -qx $$p || echo $$p; done); \
	if [ -n "$$want" ]; then \
		echo "installing $$want"; \
		$(SUDO) apt-get update -qq && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1 apt-get install -y -qq \
			--no-install-recommends $$want >/dev/null; \
	fi
	@mkdir -p $(STAMPS) && touch $@

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "pycilium needs Python 3.11 or later: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, os, sysconfig; \
			os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || \
		{ $(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install \
			-y -qq --no-install-recommends python3-venv python3-dev >/dev/null; }
	@$(PYTHON) -m venv $(VENV)

$(STAMPS)/python: pyproject.toml $(VENV)/pyvenv.cfg $(STAMPS)/packages
	@echo "installing Python packages"
	@$(BIN)/python -m pip install -q --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install -q --group test --group lint --group wheel --group bench cffi hatchling editables
	@$(BIN)/python -m pip install -q --no-build-isolation -e '.[all]'
	@touch $@

build: $(STAMPS)/python
	@$(BIN)/python src/pycilium/libbpf/_build.py

demo: build
	@$(SUDO) $(BIN)/python -m pycilium.demo

lint: build
	@$(BIN)/ruff check src tests benchmarks examples
	@$(BIN)/ruff format --check src tests benchmarks examples
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@clang-format-19 --dry-run -Werror $$(find bpf -name '*.[ch]')

test: lint
	$(SUDO) env CI=$(CI) $(PYTEST) -m "not long"

test-long: lint $(STAMPS)/kernel-packages
	$(SUDO) $(PYTEST)

test-kernels: build $(STAMPS)/kernel-packages
	$(SUDO) $(PYTEST) tests/kernels

$(STAMPS)/kernel-packages: $(STAMPS)/python
	@$(SUDO) apt-get update -qq
	@DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends \
		$(KERNEL_PACKAGES) >/dev/null
	@touch $@

bench: build
	@$(SUDO) $(BIN)/python -m benchmarks --all

bench-results: build
	@$(SUDO) $(BIN)/python -m benchmarks --all --save

bench-report: build
	@$(BIN)/python -m benchmarks.publish

wheel: build
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation --outdir dist/raw . >/dev/null
	@PATH=$(abspath $(BIN)):$$PATH $(BIN)/auditwheel repair -w dist dist/raw/*.whl
	@ls dist/*.whl

docs: $(STAMPS)/python
	@$(BIN)/python -m pip install -q --group docs
	@$(BIN)/python -m sphinx -W -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

format: build
	@$(BIN)/ruff check --fix -q src tests benchmarks examples
	@$(BIN)/ruff format src tests benchmarks examples
	@clang-format-19 -i $$(find bpf -name '*.[ch]')

clean:
	rm -rf build dist src/pycilium/_objects src/pycilium/libbpf/*.so src/pycilium/cni/shim docs/_build
