# llmos. `make` lists the targets; each does all the set-up it needs on a machine with Python, a C++ compiler and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 1
MODEL ?= smollm2-135m

.DEFAULT_GOAL := list
.PHONY: list demo run test check browser pictures bench bench-paging figures crash attack docs clean
SWEEP ?= build/paging

list:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

# One stamp for the whole set-up. pip compiles llama.cpp here: about 6 minutes on two cores, once.
$(VENV)/.ready: pyproject.toml constraints.txt
	@echo "llmos: setting up $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"llmos needs Python 3.11 to 3.13, this is {v[0]}.{v[1]}: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)
	@echo "llmos: installing; llama-cpp-python and hnswlib are compiled, which takes 5 to 10 minutes the first time"
	@( while sleep 30; do echo "llmos: still compiling ..."; done ) & beat=$$!; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[llama,graph,bench,cluster,hub,http,documents,mcp,dev]'; \
	status=$$?; kill $$beat; exit $$status
	@touch $@
	@echo "llmos: set-up is complete"

demo: $(VENV)/.ready  ## ten facts told, evicted, and asked for, on SmolLM2-135M
	@$(BIN)/llmos demo --seed $(SEED)

run: $(VENV)/.ready  ## talk to a model: make run MODEL=path.gguf
	@$(BIN)/llmos chat --model $(MODEL)

PYTEST := $(BIN)/pytest -q -n 2 --dist loadgroup --no-loadscope-reorder

check: $(VENV)/.ready  ## ruff, mypy --strict, fast tests: two minutes on two cores
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) -m "not gguf and not slow" tests/unit tests/property tests/drivers

test: $(VENV)/.ready  ## all tests, a real model included
	@$(BIN)/llmos pull smollm2-135m
	$(PYTEST)

browser: $(VENV)/.ready  ## the console in Debian's Chromium, which is installed if it may be
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium; } || \
	{ echo "llmos: no chromium, and it cannot be installed here; as root: apt-get install chromium"; exit 1; }
	$(BIN)/pytest -q tests/browser

pictures: browser  ## the pictures of README.md, as the browser's tests saw the console
	$(BIN)/python -m tests.browser.pictures

bench: $(VENV)/.ready  ## the kernel's and the demo's figures, minutes
	$(BIN)/llmos bench kernel
	@for seed in 1 2 3 4 5; do $(BIN)/llmos demo --seed $$seed --json; done

bench-paging: $(VENV)/.ready  ## all paging policies over all workloads: LLMOS_DATA=DIR make bench-paging
	$(BIN)/llmos bench paging --sweep $(SWEEP)

SIZES ?= $(MODEL)
figures: $(VENV)/.ready  ## what a change of a default may not cost: LLMOS_DATA=DIR make figures; SIZES=a GGUF that counts
	@$(BIN)/llmos pull $(MODEL)
	@$(BIN)/python -m bench.figures --model $(MODEL) --sizes $(SIZES)

SEEDS ?= 5
crash: $(VENV)/.ready  ## kill the machine at every failpoint, thousands of times: 20 minutes
	$(BIN)/llmos bench crash --points all --seeds $(SEEDS) --json

attack: $(VENV)/.ready  ## give every surface what breaks it, 10,000 times each: minutes
	$(BIN)/llmos bench attack --json

docs: $(VENV)/.ready  ## regenerate docs/syscalls.md, settings.md, processes.md, and the outputs in scenarios.md
	$(BIN)/python -c 'from syscalls.manual import document; print(document(), end="")' > docs/syscalls.md
	$(BIN)/python -c 'from llmos.settings import document; print(document(), end="")' > docs/settings.md
	$(BIN)/python -m tests.states
	$(BIN)/python -m tests.tutorial

clean:  ## remove what the targets made, models and data directories excepted
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
