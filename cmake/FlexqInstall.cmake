# What `cmake --install` puts where, relocatable: nothing installed has an absolute path inside.
#
#   bin/flexq                             the tool, with its manual pages in share/man/man1
#   lib/libflexq.so.0, libflexq_cuda.so   the second where it was built, found beside the first
#   lib/libflexq_http.so                  for `flexq serve`, likewise
#   include/flexq.h
#   lib/cmake/FlexQ, lib/pkgconfig        for find_package(FlexQ) and pkg-config
#   share/flexq/samples                   sources of the samples, and a tiny model
#   share/doc/flexq                       licences, of what is inside the binaries too
#
# Components for `cmake --install --component`: runtime and development.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

foreach(directory IN ITEMS BINDIR LIBDIR INCLUDEDIR DATADIR MANDIR)
  if(IS_ABSOLUTE "${CMAKE_INSTALL_${directory}}")
    message(FATAL_ERROR "CMAKE_INSTALL_${directory}: expected a path relative to the prefix, found "
      "${CMAKE_INSTALL_${directory}}")
  endif()
endforeach()

set(doc_dir ${CMAKE_INSTALL_DATADIR}/doc/flexq)
set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/FlexQ)
set(generated ${CMAKE_BINARY_DIR}/install)

# Runtime.
install(TARGETS flexq EXPORT FlexQTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT development
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET flexq_http)
  install(TARGETS flexq_http
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime)
endif()
if(FLEXQ_WITH_CUDA)
  install(TARGETS flexq_cuda
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime)
endif()
install(TARGETS flexq_tool EXPORT FlexQToolTargets
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
file(RELATIVE_PATH to_libraries /${CMAKE_INSTALL_BINDIR} /${CMAKE_INSTALL_LIBDIR})
set_target_properties(flexq_tool PROPERTIES INSTALL_RPATH "$ORIGIN/${to_libraries}")
if(TARGET flexq_man_pages)
  install(DIRECTORY ${FLEXQ_MAN_FOLDER}/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1
    COMPONENT runtime FILES_MATCHING PATTERN "*.1")
endif()

install(FILES LICENSE NOTICE THIRD_PARTY.md README.md ${FLEXQ_COPYRIGHT_FILE}
  DESTINATION ${doc_dir} COMPONENT runtime)

# Development.
install(FILES include/flexq.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)
install(DIRECTORY samples/ DESTINATION ${CMAKE_INSTALL_DATADIR}/flexq/samples
  COMPONENT development PATTERN quickstart.sh EXCLUDE)
install(EXPORT FlexQTargets NAMESPACE FlexQ:: DESTINATION ${config_dir} COMPONENT development)
install(EXPORT FlexQToolTargets NAMESPACE FlexQ:: DESTINATION ${config_dir} COMPONENT development)
configure_package_config_file(cmake/FlexQConfig.cmake.in ${generated}/FlexQConfig.cmake
  INSTALL_DESTINATION ${config_dir}
  PATH_VARS CMAKE_INSTALL_LIBDIR NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${generated}/FlexQConfigVersion.cmake
  COMPATIBILITY SameMajorVersion)
install(FILES ${generated}/FlexQConfig.cmake ${generated}/FlexQConfigVersion.cmake
  DESTINATION ${config_dir} COMPONENT development)

# Inside libflexq.so nothing else is needed, and .pc files that are named but missing are errors.
set(FLEXQ_PC_REQUIRES_PRIVATE "libzstd libpcre2-8 libcrypto")
if(FLEXQ_STATIC_DEPS)
  set(FLEXQ_PC_REQUIRES_PRIVATE "")
endif()
set(pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH FLEXQ_PC_PREFIX /${pc_dir} /)
string(REGEX REPLACE "/$" "" FLEXQ_PC_PREFIX "${FLEXQ_PC_PREFIX}")
configure_file(cmake/flexq.pc.in ${generated}/flexq.pc @ONLY)
install(FILES ${generated}/flexq.pc DESTINATION ${pc_dir} COMPONENT development)

set(own_folders "${doc_dir}|${config_dir}|${CMAKE_INSTALL_DATADIR}/flexq")
add_custom_target(uninstall
  COMMAND ${CMAKE_COMMAND} -DBUILD=${CMAKE_BINARY_DIR} -DFOLDERS=${own_folders}
    -P ${CMAKE_SOURCE_DIR}/cmake/FlexqUninstall.cmake
  VERBATIM)
