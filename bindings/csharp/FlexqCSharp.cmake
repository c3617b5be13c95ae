# flexq_add_assembly: compiles C# by mcs into FLEXQ_CSHARP_FOLDER.
#
#   flexq_add_assembly(target Name.dll|Name.exe SOURCES a.cs... [GENERATED folder] [DEPENDS file...]
#     [REFERENCES Other.dll...] [OPTIONS mcs-option...] [FOLDER folder])
#
# GENERATED: a folder of which every source is compiled. The target is part of `all`. C# 6, since
# that is what every compiler for Mono knows.
function(flexq_add_assembly target file)
  cmake_parse_arguments(ARG "" "GENERATED;FOLDER" "SOURCES;DEPENDS;REFERENCES;OPTIONS" ${ARGN})
  if(NOT ARG_FOLDER)
    set(ARG_FOLDER ${FLEXQ_CSHARP_FOLDER})
  endif()
  file(MAKE_DIRECTORY ${ARG_FOLDER})
  set(output ${ARG_FOLDER}/${file})
  set(type exe)
  if(file MATCHES "\\.dll$")
    set(type library)
  endif()
  set(arguments -nologo -langversion:6 -target:${type} -warn:4 -debug- -optimize+ -out:${output}
    ${ARG_OPTIONS})
  foreach(reference IN LISTS ARG_REFERENCES)
    list(APPEND arguments -r:${reference})
  endforeach()
  list(TRANSFORM ARG_SOURCES PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/ REGEX "^[^/]")
  list(APPEND arguments ${ARG_SOURCES})
  if(ARG_GENERATED)
    list(APPEND arguments -recurse:${ARG_GENERATED}/*.cs)
  endif()
  add_custom_command(OUTPUT ${output}
    COMMAND ${FLEXQ_MCS} ${arguments}
    DEPENDS ${ARG_SOURCES} ${ARG_DEPENDS} ${ARG_REFERENCES}
    COMMENT "mcs: ${file}" VERBATIM)
  add_custom_target(${target} ALL DEPENDS ${output})
endfunction()
