# Everything that README names. Each target makes what it needs; nothing outside .venv/ and build/
# is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_DIR ?= build/demo
# Where there is no GPU, torch's CPU build is enough, and hundreds of MB smaller.
CONSTRAINTS := $(if $(shell command -v nvidia-smi),,--constraint constraints-cpu.txt)
SOURCES := $(shell git ls-files export runtime kernels CMakeLists.txt pyproject.toml)
NVCC := $(shell command -v nvcc)

.PHONY: demo test lint format clean

demo: $(VENV)/.demo  ## Real trajectories to tokens and classes, on the CPU.
	$(BIN)/magvit demo --output $(DEMO_DIR)

test: $(VENV)/.test build/ctest/.built  ## All tests: Python, C++.
	$(BIN)/ctest --test-dir build/ctest --output-on-failure
	$(BIN)/python -m pytest

lint: $(VENV)/.test  ## Style and types.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	git ls-files '*.cpp' '*.cu' '*.cuh' '*.h' '*.c' | xargs $(BIN)/clang-format --dry-run --Werror

format: $(VENV)/.test  ## Formats Python and C++.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	git ls-files '*.cpp' '*.cu' '*.cuh' '*.h' '*.c' | xargs $(BIN)/clang-format -i

clean:
	rm -rf build $(VENV)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python constraints-cpu.txt $(SOURCES)
	$(BIN)/pip install $(CONSTRAINTS) '.[export,cpu,data]'
	touch $@

$(VENV)/.test: $(BIN)/python constraints-cpu.txt $(SOURCES)
	$(BIN)/pip install $(CONSTRAINTS) '.[export,cpu,data,video,dev]'
	touch $@ $(VENV)/.demo
