# Finds a CUDA toolkit, says in one line what this build contains, and sets
#   FLEXQ_WITH_CUDA       1: libflexq_cuda.so is built, 0: it is not
#   FLEXQ_CUDA_HEADERS    TRUE: the backend's host code can be compiled, be it for tests alone
#
# FLEXQ_CUDA_ARCHITECTURES: the ordinary build has the two that are tested; a release is built with
# -DFLEXQ_CUDA_ARCHITECTURES="75-real;80-real;86-real;87-real;89-real;90a-real".

set(FLEXQ_CUDA AUTO CACHE STRING "CUDA backend: AUTO (where a toolkit is found), ON, OFF")
set_property(CACHE FLEXQ_CUDA PROPERTY STRINGS AUTO ON OFF)
set(FLEXQ_CUDA_ARCHITECTURES "80-real;90a-real" CACHE STRING "GPU architectures of the CUDA backend")
set(FLEXQ_CUDA_OLDEST_TOOLKIT 12.4)

set(FLEXQ_WITH_CUDA 0)
set(FLEXQ_CUDA_HEADERS FALSE)
set(FLEXQ_CUDA_DESCRIPTION "none")
set(FLEXQ_CUDA_SM_LIST "none")

if(FLEXQ_CUDA STREQUAL "OFF")
  message(STATUS "FlexQ: without the CUDA backend (FLEXQ_CUDA=OFF)")
else()
  find_package(CUDAToolkit ${FLEXQ_CUDA_OLDEST_TOOLKIT} QUIET)
  if(CUDAToolkit_FOUND)
    set(FLEXQ_CUDA_HEADERS TRUE)
  endif()
  if(FLEXQ_SANITIZE)
    # The sanitizers are for host code: the backend's is compiled for its tests, no kernel is.
    message(STATUS "FlexQ: without the CUDA backend (a sanitizer build)")
  elseif(CUDAToolkit_FOUND AND CUDAToolkit_NVCC_EXECUTABLE)
    set(FLEXQ_WITH_CUDA 1)
  elseif(FLEXQ_CUDA STREQUAL "ON")
    message(FATAL_ERROR "FLEXQ_CUDA=ON: expected a CUDA toolkit of version "
      "${FLEXQ_CUDA_OLDEST_TOOLKIT} or newer with nvcc, found none (set CUDAToolkit_ROOT)")
  else()
    message(STATUS "FlexQ: without the CUDA backend (no CUDA toolkit "
      "${FLEXQ_CUDA_OLDEST_TOOLKIT} or newer found)")
  endif()
endif()

if(FLEXQ_WITH_CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
  endif()
  set(CMAKE_CUDA_ARCHITECTURES ${FLEXQ_CUDA_ARCHITECTURES})
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
  enable_language(CUDA)
  # The host half of .cu files, as far as what nvcc makes of them allows.
  set(host_flags -Wall -ffp-contract=off -fstack-protector-strong
    -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=)
  list(JOIN host_flags "," host_flags)
  add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${host_flags}>")
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    # CMake 3.25 does not know how new an nvcc must be for C++20; all that are accepted here can.
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_COMPILE_FEATURES "cuda_std_20")
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)

  set(FLEXQ_CUDA_DESCRIPTION "${CUDAToolkit_VERSION_MAJOR}.${CUDAToolkit_VERSION_MINOR}")
  string(REGEX REPLACE "-(real|virtual)" "" FLEXQ_CUDA_SM_LIST "${FLEXQ_CUDA_ARCHITECTURES}")
  list(JOIN FLEXQ_CUDA_SM_LIST " " FLEXQ_CUDA_SM_LIST)
  message(STATUS "FlexQ: with the CUDA backend (toolkit ${CUDAToolkit_VERSION}, "
    "SM ${FLEXQ_CUDA_SM_LIST})")
endif()
