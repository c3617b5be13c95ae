# FLEXQ_COPYRIGHT_FILE: the licences of what the binaries contain, for packages to carry: ours, and the
# texts of the parts of others (see THIRD_PARTY.md), which Debian keeps beside every package.
set(FLEXQ_COPYRIGHT_FILE ${CMAKE_BINARY_DIR}/install/copyright)

set(contained libflatbuffers-dev nlohmann-json3-dev libcli11-dev libcpp-httplib-dev)
if(FLEXQ_STATIC_DEPS)
  list(APPEND contained libzstd-dev libpcre2-dev libssl-dev)
endif()
file(READ ${CMAKE_SOURCE_DIR}/NOTICE copyright)
string(APPEND copyright "\nFlexQ itself: Apache License 2.0, see LICENSE beside this file.\n")
if(FLEXQ_WITH_CUDA)
  string(APPEND copyright "\nlibflexq_cuda.so contains NVIDIA's CUDA runtime library, under the "
    "NVIDIA CUDA Toolkit End User License Agreement: https://docs.nvidia.com/cuda/eula\n")
endif()
foreach(package IN LISTS contained)
  set(text /usr/share/doc/${package}/copyright)
  if(EXISTS ${text})
    file(READ ${text} text)
    string(APPEND copyright "\n\n==== ${package} ====\n\n${text}")
  else()
    message(STATUS "FlexQ: ${text} not found: add the licence text to what you distribute")
  endif()
endforeach()
file(WRITE ${FLEXQ_COPYRIGHT_FILE} "${copyright}")
