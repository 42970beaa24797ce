# Stix. `make demo` and `make test` do all the set-up they need; see README.md.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test pytest check lint types imports bench soak e2e-kubernetes e2e-full e2e-aws layers synth deploy system clean help

help:
	@echo "make demo    run a real two-node task through the embedded control plane"
	@echo "make test    every check that CI runs"
	@echo "make bench   figures, each beside its limit"
	@echo "make soak    the slow checks at their full size"
	@echo "make e2e-kubernetes   the cloud kubernetes against a real control plane"
	@echo "make e2e-full         the stack on LocalStack, in an environment of its own"
	@echo "make e2e-aws          the deployed system in your AWS account; costs money"
	@echo "make deploy  put the control plane into your AWS account"

# --- set-up: stamps, so that a second run costs nothing -------------------------------------------------------
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install "pip>=25.1"

$(VENV)/.local: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e ".[local]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e ".[local,aws,gcp,azure,kubernetes,simulate,deploy]" --group dev
	@touch $@ $(VENV)/.local

# Debian's daemons and tools that some tests run for real, where root can install them. A test without its
# daemon is skipped and says so.
SYSTEM = docker.io busybox-static openssh-server rsync iproute2 haproxy wrk
system:
	@dpkg -s $(SYSTEM) >/dev/null 2>&1 || { \
	  [ "$$(id -u)" = 0 ] && apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
	  apt-get -qq -y --no-install-recommends install $(SYSTEM); } >/dev/null 2>&1 || \
	  echo "Not installed: one of $(SYSTEM). The tests that need it are skipped."

# --- what people run ------------------------------------------------------------------------------------------
demo: $(VENV)/.local
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh docs/examples/demo.sh

# The checks run beside the tests. Tests that start processes wait most of their time: there are more workers than
# the two cores on which this has to end within nine minutes.
WORKERS ?= 6
test: $(VENV)/.dev
	+@$(MAKE) --no-print-directory -j 3 check pytest

pytest: layers
	CDK_VALIDATION=false $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

check: lint types imports layers

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks

soak: $(VENV)/.dev layers
	STIX_TEST_NEW_EXAMPLES=1 CDK_VALIDATION=false $(BIN)/python -m pytest -m "soak or property" -s

# A real Kubernetes control plane; its build is kept outside the repository and takes minutes once.
e2e-kubernetes: $(VENV)/.dev
	sh tests/substrate/kubernetes/build.sh
	$(BIN)/python -m pytest -m kubernetes -rs tests/e2e/test_kubernetes_real.py tests/contract/test_compute.py \
	  tests/contract/test_compute_kubernetes_real.py tests/contract/test_compute_kubernetes_refusals.py

# A second opinion on the stack; LocalStack's packages would not go along with ours. With STIX_LOCALSTACK_IMAGE
# (localstack/localstack:4.9.2) that image is run on this machine's Docker engine instead.
$(VENV)-localstack/.made: tests/localstack/constraints.txt
	$(PYTHON) -m venv $(VENV)-localstack
	$(VENV)-localstack/bin/python -m pip --quiet --disable-pip-version-check install -r tests/localstack/constraints.txt
	@touch $@

e2e-full: $(VENV)/.dev $(if $(STIX_LOCALSTACK_IMAGE),,$(VENV)-localstack/.made)
	STIX_LOCALSTACK=$(VENV)-localstack CDK_VALIDATION=false $(BIN)/python -m pytest -m localstack -rs -s \
	  tests/e2e/test_deployed_localstack.py

# With AWS_PROFILE and AWS_REGION as for any other tool, STIX_E2E_AWS=yes, and STIX_E2E_MAX_USD (2) as its cap.
e2e-aws: $(VENV)/.dev
	$(BIN)/python -m pytest -m account -rs -s tests/live/test_deployed_account.py

# --- the deployed control plane -------------------------------------------------------------------------------
layers: $(VENV)/.dev
	$(BIN)/python -m layers.build

synth: layers
	$(BIN)/python -m infra.app

deploy: $(VENV)/.dev
	$(BIN)/stix deploy $(ARGS)

clean:
	rm -rf .build .mypy_cache .ruff_cache .pytest_cache cdk.out
