# flexq_add_test: one doctest program and its ctests, plain and under the sanitizers.
#
#   flexq_add_test(text_test SOURCES a_test.cpp DEPS flexq_text
#     [CASES T23_hostile_texts] [SLOW_CASES T27_golden_text] [SANITIZERS asan tsan] [LABELS x]
#     [AARCH64 "-tce=T1_*"])
#
# Every name in CASES and SLOW_CASES becomes a ctest of its own that runs the test cases whose names
# begin with it; one more ctest, named after the program, runs all the others.
#
# SANITIZERS (default: asan; "none" for neither) says in which sanitizer builds the program is run
# as well, without its SLOW_CASES. Those builds are presets of their own (build/asan, build/tsan);
# with FLEXQ_TEST_SANITIZERS the release build lists their programs as asan_NAME and tsan_NAME, so
# that one ctest runs everything.

# AARCH64: the cross build for 64-bit ARM (preset aarch64) has this program too, and the release build
# runs it under qemu-user as aarch64_NAME, with this filter; FLEXQ_TEST_AARCH64.

option(FLEXQ_TEST_SANITIZERS "Let ctest also run the programs of build/asan and build/tsan" OFF)
set(FLEXQ_TEST_TIMEOUT_S 900)

option(FLEXQ_TEST_AARCH64 "Let ctest also run the programs of build/aarch64" OFF)

# Likewise the packages of the preset `package`, made by its target `packages`.
option(FLEXQ_TEST_PACKAGES "Let ctest also test the packages of build/package" OFF)
set(FLEXQ_PACKAGE_BUILD ${CMAKE_SOURCE_DIR}/build/package)

# Name of this build's sanitizer in SANITIZERS; empty in a plain build.
set(FLEXQ_SANITIZER_NAME "")
if(FLEXQ_SANITIZE MATCHES "address")
  set(FLEXQ_SANITIZER_NAME asan)
elseif(FLEXQ_SANITIZE MATCHES "thread")
  set(FLEXQ_SANITIZER_NAME tsan)
endif()

set(FLEXQ_ENVIRONMENT_asan "ASAN_OPTIONS=allocator_may_return_null=1:detect_stack_use_after_return=1"
  "UBSAN_OPTIONS=print_stacktrace=1")
set(FLEXQ_ENVIRONMENT_tsan "TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1")

# The programs that the tsan build is made for: cmake --build --preset tsan --target tsan_programs.
add_custom_target(asan_programs)
add_custom_target(tsan_programs)
add_custom_target(aarch64_programs)

# Only tests with the label gpu may see a GPU: all others would change with the machine, since the
# device "auto" is a GPU where there is one.
function(flexq_register_test name command filter labels environment)
  if(NOT "gpu" IN_LIST labels)
    list(APPEND environment "CUDA_VISIBLE_DEVICES=")
  endif()
  add_test(NAME ${name} COMMAND ${command} "${filter}" --no-version)
  # 77: doctest_main.cpp saw only test cases that skipped for want of reference data.
  set_tests_properties(${name} PROPERTIES LABELS "${labels}" TIMEOUT ${FLEXQ_TEST_TIMEOUT_S}
    SKIP_RETURN_CODE 77 ENVIRONMENT "${environment}")
endfunction()

function(flexq_add_test name)
  cmake_parse_arguments(ARG "" "AARCH64" "SOURCES;DEPS;CASES;SLOW_CASES;SANITIZERS;LABELS" ${ARGN})
  if(NOT ARG_SANITIZERS)
    set(ARG_SANITIZERS asan)
  endif()

  add_executable(${name} ${ARG_SOURCES} ${CMAKE_SOURCE_DIR}/tests/support/doctest_main.cpp)
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE
    FLEXQ_SOURCE_DIR="${CMAKE_SOURCE_DIR}" FLEXQ_REFERENCE_DATA_DIR="${FLEXQ_REFERENCE_DATA}")
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} doctest::doctest)
  foreach(sanitizer IN ITEMS asan tsan)
    if(sanitizer IN_LIST ARG_SANITIZERS)
      add_dependencies(${sanitizer}_programs ${name})
    endif()
  endforeach()

  if(DEFINED ARG_AARCH64)
    add_dependencies(aarch64_programs ${name})
    if(FLEXQ_TEST_AARCH64)
      add_test(NAME aarch64_${name}
        COMMAND ${CMAKE_SOURCE_DIR}/tests/run_aarch64.sh ${name} ${ARG_AARCH64} --no-version)
      set_tests_properties(aarch64_${name} PROPERTIES LABELS "reliability;aarch64"
        TIMEOUT ${FLEXQ_TEST_TIMEOUT_S} SKIP_RETURN_CODE 77)
    endif()
  endif()

  if(FLEXQ_SANITIZER_NAME AND NOT FLEXQ_SANITIZER_NAME IN_LIST ARG_SANITIZERS)
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
    return()
  endif()

  set(patterns ${ARG_CASES} ${ARG_SLOW_CASES})
  list(TRANSFORM patterns APPEND "*")
  list(JOIN patterns "," patterns)
  set(others "-tce=${patterns}")

  # This build's own program.
  set(environment "${FLEXQ_ENVIRONMENT_${FLEXQ_SANITIZER_NAME}}")
  set(cases ${ARG_CASES})
  if(NOT FLEXQ_SANITIZER_NAME)
    list(APPEND cases ${ARG_SLOW_CASES})
  endif()
  foreach(case IN LISTS cases)
    flexq_register_test(${case} ${name} "-tc=${case}*" "reliability;${ARG_LABELS}" "${environment}")
  endforeach()
  flexq_register_test(${name} ${name} "${others}" "${ARG_LABELS}" "${environment}")

  # The programs of the sanitizer builds, by path.
  if(FLEXQ_TEST_SANITIZERS AND NOT FLEXQ_SANITIZER_NAME)
    foreach(sanitizer IN ITEMS asan tsan)
      if(NOT sanitizer IN_LIST ARG_SANITIZERS)
        continue()
      endif()
      set(program ${CMAKE_SOURCE_DIR}/build/${sanitizer}/bin/${name})
      set(environment "${FLEXQ_ENVIRONMENT_${sanitizer}}")
      foreach(case IN LISTS ARG_CASES)
        flexq_register_test(${sanitizer}_${case} ${program} "-tc=${case}*"
          "reliability;${sanitizer};${ARG_LABELS}" "${environment}")
      endforeach()
      flexq_register_test(${sanitizer}_${name} ${program} "${others}"
        "${sanitizer};${ARG_LABELS}" "${environment}")
    endforeach()
  endif()
endfunction()

# A check that is a script: flexq_add_check(T8_name COMMAND script.sh arguments...). In the plain
# build only.
function(flexq_add_check name)
  cmake_parse_arguments(ARG "" "" "COMMAND;LABELS" ${ARGN})
  if(FLEXQ_SANITIZER_NAME)
    return()
  endif()
  add_test(NAME ${name} COMMAND ${ARG_COMMAND})
  set_tests_properties(${name} PROPERTIES
    LABELS "check;${ARG_LABELS}" TIMEOUT ${FLEXQ_TEST_TIMEOUT_S} SKIP_RETURN_CODE 77
    ENVIRONMENT "CUDA_VISIBLE_DEVICES=")
endfunction()
