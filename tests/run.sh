#!/bin/bash
# Runs every test on a bare Debian 12 machine: installs packages, builds the release, asan, tsan,
# aarch64 and package presets, and runs one ctest over all five; its summary comes last. Exit code 0 only when
# everything was built and passed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

tools/install-packages.sh --tests || exit 1

# The package build compiles again what the release build has compiled: from this cache in seconds.
if command -v ccache >/dev/null; then
  export CCACHE_DIR=$PWD/build/ccache
  export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
fi

# Builds go on after an error: what could not be built fails in ctest, by name.
failed=0
cmake --preset release -DFLEXQ_BUILD_TESTS=ON -DFLEXQ_TEST_SANITIZERS=ON -DFLEXQ_TEST_PACKAGES=ON \
  -DFLEXQ_TEST_AARCH64=ON ||
  exit 1
cmake --build --preset release -- -k 0 || failed=1
cmake --preset asan || failed=1
cmake --build --preset asan --target asan_programs -- -k 0 || failed=1
cmake --preset tsan || failed=1
cmake --build --preset tsan --target tsan_programs -- -k 0 || failed=1
if tests/run_aarch64.sh --available; then
  cmake --preset aarch64 || failed=1
  cmake --build --preset aarch64 --target aarch64_programs -- -k 0 || failed=1
fi
# Without kernels for CUDA, which take longest to compile: the release build has them.
cmake --preset package -DFLEXQ_CUDA=OFF || failed=1
cmake --build --preset package --target packages -- -k 0 || failed=1

data=${FLEXQ_REFERENCE_DATA:-../shared/data}
[ -d "$data" ] || echo "No reference data at $data: tests that need it are reported as skipped."
[ "$failed" = 0 ] || echo "The build failed (see above): the run cannot pass."
ctest --preset release || failed=1
exit "$failed"
