# Everything that README names. Each target makes what it needs; nothing outside .venv/ and build/
# is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_DIR ?= build/demo
GPU_CHECK_DIR ?= build/gpu-check
BENCH_DIR ?= build/bench
SOURCES := $(shell git ls-files export runtime kernels CMakeLists.txt pyproject.toml)
CPP := git ls-files '*.c' '*.cpp' '*.cu' '*.cuh' '*.h'

# Where there is no GPU, torch's CPU build is enough, and GBs smaller.
ifeq ($(shell command -v nvidia-smi),)
PIP_FLAGS += --constraint constraints-cpu.txt
endif
# Where there is nvcc, the TensorRT plugins are built too; their headers come from a wheel.
ifneq ($(shell command -v nvcc),)
PIP_FLAGS += --config-settings=cmake.define.MAGVIT_DOWNLOAD_HEADERS=ON
CMAKE_FLAGS += -DMAGVIT_DOWNLOAD_HEADERS=ON
DISPATCH := build/dispatch-10.16.1.11 build/dispatch-11.1.0.106
endif

.PHONY: demo test test-all lint format bench gpu-check wheel release clean

demo: $(VENV)/.demo  ## Real trajectories to tokens and classes, on the CPU.
	$(BIN)/magvit demo --output $(DEMO_DIR)

# Of tests that run beside each other, each process has one thread of torch: those of several wait for
# each other by spinning, which took 40 % of the CPU time.
test: $(VENV)/.dev build/ctest/.built build/sanitize-address build/sanitize-thread $(DISPATCH) build/cudnn build/open-magvit2 build/triton dist  ## All tests: C++ and Python.
	for build in ctest sanitize-address sanitize-thread; do \
	    $(BIN)/ctest --test-dir build/$$build --output-on-failure || exit 1; done
	export MAGVIT_TENSORRT_SITES=$$(ls -d build/dispatch-* 2>/dev/null | paste -sd:) \
	    MAGVIT_CUDNN_SITE=$(abspath build/cudnn) MAGVIT_WHEELS=$(abspath dist) \
	    MAGVIT_OPEN_MAGVIT2_SITE=$(abspath build/open-magvit2) MAGVIT_TRITON_SITE=$(abspath build/triton) && \
	    OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not alone and not full_size and not nightly" && \
	    $(BIN)/python -m pytest -m "(alone or full_size) and not nightly"

test-all: test  ## What `make test` leaves out too: more models at full size.
	MAGVIT_WHEELS=$(abspath dist) $(BIN)/python -m pytest -m nightly

lint: $(VENV)/.dev  ## Style, types, and which room may import which.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(CPP) | xargs $(BIN)/clang-format --dry-run --Werror

format: $(VENV)/.dev  ## Formats Python and C++.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(CPP) | xargs $(BIN)/clang-format -i

bench: $(VENV)/.dev  ## Our backends in turn on the small preset: what to look at, not to pass.
	test -d $(BENCH_DIR)/bundle || \
	    $(BIN)/magvit export trajectory-small --weights seeded -o $(BENCH_DIR)/bundle
	$(BIN)/magvit bench $(BENCH_DIR)/bundle --repetitions 5 --rounds 2 --workers 0 \
	    --output $(BENCH_DIR)/bench.json --report $(BENCH_DIR)/bench.html

gpu-check:  ## Native fp16 beside torch.compile on this machine's GPU, in ten minutes; fails without one.
	$(or $(wildcard $(BIN)/python),$(PYTHON)) kernels/gpu_check --output $(GPU_CHECK_DIR) $(GPU_CHECK_FLAGS)

wheel: dist  ## dist/: a wheel for every Python and every Linux of glibc 2.28, and the sources.

release: $(VENV)/.dev  ## dist/: wheel and sources of this commit, a bill of materials and SHA256SUMS.
	$(BIN)/python .ci/release check
	rm -rf dist
	$(MAKE) dist
	$(BIN)/python .ci/release describe dist

dist: $(VENV)/.dev
	rm -rf build/wheel dist
	$(BIN)/pip wheel . --no-deps --wheel-dir build/wheel $(PIP_FLAGS) --config-settings=cmake.define.MAGVIT_ZIG=$$( \
	    $(BIN)/python -c 'import ziglang; print(*ziglang.__path__)')/zig
	PATH="$(abspath $(BIN)):$$PATH" auditwheel repair --plat manylinux_2_28_x86_64 --only-plat \
	    --wheel-dir dist build/wheel/*.whl
	$(BIN)/python -m build --sdist --outdir dist .

clean:
	rm -rf build dist $(VENV)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python constraints-cpu.txt $(SOURCES)
	$(BIN)/pip install $(PIP_FLAGS) '.[export,cpu,data]'
	touch $@

$(VENV)/.dev: $(BIN)/python constraints-cpu.txt $(SOURCES)
	$(BIN)/pip install $(PIP_FLAGS) '.[export,cpu,data,video,report,dev]'
	touch $@ $(VENV)/.demo

# The C++ example is linked to a dispatch runtime.
build/ctest/.built: $(VENV)/.dev $(shell git ls-files examples/cpp tests/kernels) | $(DISPATCH)
	PATH="$(abspath $(BIN)):$$PATH" cmake -S . -B build/ctest -G Ninja -DMAGVIT_WERROR=ON $(CMAKE_FLAGS)
	PATH="$(abspath $(BIN)):$$PATH" cmake --build build/ctest
	touch $@

# The CPU operators and their tests, checked as they run.
build/sanitize-%: $(VENV)/.dev $(shell git ls-files tests/kernels)
	PATH="$(abspath $(BIN)):$$PATH" cmake -S . -B $@ -G Ninja -DMAGVIT_SANITIZE=$*
	PATH="$(abspath $(BIN)):$$PATH" cmake --build $@
	touch $@

# The genuine plugin registries of two TensorRT versions, which can't be installed side by side.
# Where their wheels don't fit this Python, the tests that need them are skipped, and say so.
build/dispatch-%: $(VENV)/.dev
	$(BIN)/pip install --quiet --no-deps --target $@ \
	    tensorrt-dispatch-cu13-libs==$* tensorrt-dispatch-cu13-bindings==$* || rm -rf $@

# cuDNN with what it loads when it plans convs for a GPU that isn't here; apart from the
# environment, since nothing else may find it.
build/cudnn: $(VENV)/.dev
	$(BIN)/pip install --quiet --no-deps --target $@ nvidia-cudnn-cu13==9.19.1.2 \
	    nvidia-cublas==13.10.0.20 nvidia-cuda-nvrtc==13.5.37 nvidia-cudnn-frontend==1.32.0 || rm -rf $@

# Another implementation of the image tokenizers, to compare with. Apart and without what it asks
# for: that is old, and of no use here.
build/open-magvit2: $(VENV)/.dev
	$(BIN)/pip install --quiet --no-deps --target $@ open-magvit2==1.1 einops==0.8.2 || rm -rf $@

# Triton's server, with the NumPy that its Python backend was built for. Apart, since that is old;
# newer Tritons take newer ones. Where the wheel doesn't fit, its tests are skipped, and say so.
build/triton: $(VENV)/.dev
	$(BIN)/pip install --quiet --no-deps --only-binary :all: --target $@ nvidia-pytriton==0.7.0 'numpy>=1.26,<2' || rm -rf $@
