# package_native: the Debian package flexq_<version>_<arch>.deb and the same files as a .tar.gz, with
# the tool, the library, all for development and the samples, stripped. Dependencies of the package
# come from dpkg-shlibdeps (Debian package dpkg-dev).
set(CPACK_GENERATOR DEB TGZ)
set(CPACK_OUTPUT_FILE_PREFIX ${FLEXQ_PACKAGE_FOLDER})
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_NAME flexq)
set(CPACK_PACKAGE_VENDOR "FlexQ")
set(CPACK_PACKAGE_CONTACT "FlexQ maintainers <maintainers@flexq.invalid>")
set(CPACK_PACKAGE_FILE_NAME flexq-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"A library to embed (flexq.h, libflexq.so) and the command line tool flexq, which
quantizes Hugging Face LLaMA checkpoints, inspects and checks bundles, generates
text, and measures accuracy and speed.")
include(CPack)

flexq_add_package(package_native
  COMMAND ${CMAKE_CPACK_COMMAND} --config ${CMAKE_BINARY_DIR}/CPackConfig.cmake
  DEPENDS flexq flexq_tool flexq_man_pages
  WORKING_DIRECTORY ${CMAKE_BINARY_DIR}
  COMMENT "Debian package and .tar.gz: ${FLEXQ_PACKAGE_FOLDER}")
