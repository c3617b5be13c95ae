# Looks for a CUDA toolkit and says in one line what this build contains. There is no CUDA backend
# yet, so a toolkit changes nothing.
find_package(CUDAToolkit QUIET)
if(CUDAToolkit_FOUND)
  message(STATUS "FlexQ: CUDA ${CUDAToolkit_VERSION} found, but this version has no CUDA backend: building for the CPU only")
else()
  message(STATUS "FlexQ: no CUDA toolkit found: building for the CPU only")
endif()
