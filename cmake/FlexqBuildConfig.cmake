# What the sources know of their build: #include "generated/flexq_build_config.h" with
# target_link_libraries(... flexq_build_config).

# libflexq.so and libflexq_cuda.so exchange C++ objects: version, compiler and these headers must be
# the same for both.
set(FLEXQ_BORDER_HEADERS
  kernels/layout/weight_format.h
  src/base/status.h
  src/base/thread_pool.h
  src/device/cuda_backend.h
  src/device/device.h)
set(hashes "")
foreach(header IN LISTS FLEXQ_BORDER_HEADERS)
  file(SHA256 ${CMAKE_SOURCE_DIR}/${header} hash)
  string(APPEND hashes ${hash})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${header})
endforeach()
string(SHA256 hash "${hashes}")
string(SUBSTRING ${hash} 0 16 hash)
set(FLEXQ_BUILD_ID
  "${PROJECT_VERSION} ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} ${hash}")

configure_file(${CMAKE_SOURCE_DIR}/cmake/flexq_build_config.h.in
  ${CMAKE_BINARY_DIR}/include/generated/flexq_build_config.h @ONLY)
add_library(flexq_build_config INTERFACE)
target_include_directories(flexq_build_config INTERFACE ${CMAKE_BINARY_DIR}/include)
