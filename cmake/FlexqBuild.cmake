# Compiler settings, flexq_add_library and flexq_add_object_library (one per folder) and
# flexq_add_shared_library (libflexq.so).

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
include(CheckPIESupported)
check_pie_supported()

# All of these for C and C++ only: nvcc gets flags of its own in FlexqCuda.cmake.
# -ffp-contract=off: the same sources give the same bits whatever the optimiser fuses elsewhere.
add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:-Wall;-Wextra;-Wshadow;-Wpedantic;-Werror;-fno-math-errno;-ffp-contract=off>")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 warns falsely about std::string concatenation (GCC bug 105651).
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()

# Paths in messages and debug information are relative to the project: the build folder's place
# does not change the library.
add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:-ffile-prefix-map=${CMAKE_SOURCE_DIR}/=>")

# Hardening: a full, read-only GOT; no executable stack; no text relocations; no undefined symbols.
add_link_options(-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,-z,text)
add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:-fstack-protector-strong>")
if(FLEXQ_SANITIZE)
  # One stop at the first error; the sanitizers come with their own, stricter checks of libc calls.
  add_compile_options(-fsanitize=${FLEXQ_SANITIZE} -fno-sanitize-recover=all
    -fno-omit-frame-pointer -g)
  add_link_options(-fsanitize=${FLEXQ_SANITIZE})
  include(FlexqFuzz)
else()
  add_link_options(-Wl,-z,defs)
  # FORTIFY works with optimisation only, and warns without it.
  add_compile_options("$<$<AND:$<COMPILE_LANGUAGE:C,CXX>,$<NOT:$<CONFIG:Debug>>>:-D_FORTIFY_SOURCE=2>")
endif()

set(FLEXQ_BUILD_DESCRIPTION ${CMAKE_BUILD_TYPE})
if(FLEXQ_SANITIZE)
  string(APPEND FLEXQ_BUILD_DESCRIPTION " with sanitizers ${FLEXQ_SANITIZE}")
endif()
# One static library per folder: flexq_add_library(flexq_text SOURCES a.cpp b.cpp DEPS flexq_base).
# The DEPS are the folder's only permitted neighbours; libflexq.so links them all.
function(flexq_add_library name)
  flexq_add_folder_library(${name} STATIC ${ARGN})
endfunction()

# The same for a folder whose symbols libflexq.so exports: those of archives are hidden.
function(flexq_add_object_library name)
  flexq_add_folder_library(${name} OBJECT ${ARGN})
endfunction()

function(flexq_add_folder_library name type)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} ${type} ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
  if(FLEXQ_FUZZ)
    flexq_instrument_for_fuzzing(${name})
  endif()
  set_property(GLOBAL APPEND PROPERTY FLEXQ_LIBRARIES ${name})
endfunction()

# libflexq.so: flexq_add_shared_library(flexq OBJECTS flexq_api MAP flexq.map), of an object library
# and all that it depends on. Only what the version script MAP names is exported.
function(flexq_add_shared_library name)
  cmake_parse_arguments(ARG "" "OBJECTS;MAP" "" ${ARGN})
  set(map ${CMAKE_CURRENT_SOURCE_DIR}/${ARG_MAP})
  add_library(${name} SHARED)
  add_library(FlexQ::${name} ALIAS ${name})
  target_include_directories(${name} INTERFACE $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>)
  target_link_libraries(${name} PRIVATE ${ARG_OBJECTS})
  target_link_options(${name} PRIVATE -Wl,--exclude-libs,ALL -Wl,--version-script=${map})
  set_target_properties(${name} PROPERTIES
    VERSION ${PROJECT_VERSION} SOVERSION 0 LINK_DEPENDS ${map} LINKER_LANGUAGE CXX)
endfunction()
