# Packages are made from a build with FLEXQ_STATIC_DEPS (preset `package`, build/package), whose native
# libraries need nothing but libc and libstdc++:
#
#   FLEXQ_PACKAGE_FOLDER    where every package_* target leaves what it makes
#   FLEXQ_NATIVES_FOLDER    after the target package_natives: libflexq.so.0 and, where it was built,
#                           libflexq_cuda.so, stripped, for packages of other languages, which
#                           must carry FLEXQ_COPYRIGHT_FILE too
#
# flexq_add_package(package_java COMMAND ... DEPENDS ... ) is add_custom_target for a package: in a
# build without FLEXQ_STATIC_DEPS the target fails and says why. The target `packages` makes all.
set(FLEXQ_PACKAGE_FOLDER ${CMAKE_BINARY_DIR}/packages)
set(FLEXQ_NATIVES_FOLDER ${FLEXQ_PACKAGE_FOLDER}/natives)

add_custom_target(packages)

function(flexq_add_package name)
  add_dependencies(packages ${name})
  if(FLEXQ_STATIC_DEPS)
    add_custom_target(${name} ${ARGN} VERBATIM)
    return()
  endif()
  add_custom_target(${name}
    COMMAND ${CMAKE_COMMAND} -E echo
      "${name}: expected a build with FLEXQ_STATIC_DEPS=ON (cmake --preset package), found it OFF"
    COMMAND ${CMAKE_COMMAND} -E false VERBATIM)
endfunction()

# flexq_strip_command(VARIABLE TARGET FILE): the command that puts a stripped copy of a target into
# FLEXQ_NATIVES_FOLDER under the name FILE.
function(flexq_strip_command variable target file)
  set(${variable} COMMAND ${CMAKE_STRIP} --strip-unneeded $<TARGET_FILE:${target}>
    -o ${FLEXQ_NATIVES_FOLDER}/${file} PARENT_SCOPE)
endfunction()

flexq_strip_command(commands flexq $<TARGET_SONAME_FILE_NAME:flexq>)
set(natives flexq)
if(FLEXQ_WITH_CUDA)
  flexq_strip_command(cuda_commands flexq_cuda $<TARGET_FILE_NAME:flexq_cuda>)
  list(APPEND commands ${cuda_commands})
  list(APPEND natives flexq_cuda)
endif()
flexq_add_package(package_natives
  COMMAND ${CMAKE_COMMAND} -E make_directory ${FLEXQ_NATIVES_FOLDER} ${commands}
  DEPENDS ${natives}
  COMMENT "Stripped native libraries: ${FLEXQ_NATIVES_FOLDER}")
