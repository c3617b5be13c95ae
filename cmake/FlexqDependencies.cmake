# The libraries that FLEXQ_STATIC_DEPS can put inside libflexq.so. Every folder links them by these
# names: flexq::zstd, flexq::pcre2 and flexq::crypto.

# The static archive of a package, or a clear error.
function(flexq_find_archive variable file package)
  find_library(${variable} NAMES ${file})
  if(NOT ${variable})
    message(FATAL_ERROR "FLEXQ_STATIC_DEPS needs ${file} (Debian package ${package})")
  endif()
  mark_as_advanced(${variable})
endfunction()

find_package(OpenSSL 3.0 REQUIRED COMPONENTS Crypto)
find_path(FLEXQ_ZSTD_INCLUDE_DIR zstd.h REQUIRED)
find_path(FLEXQ_PCRE2_INCLUDE_DIR pcre2.h REQUIRED)
mark_as_advanced(FLEXQ_ZSTD_INCLUDE_DIR FLEXQ_PCRE2_INCLUDE_DIR)

add_library(flexq_zstd INTERFACE)
add_library(flexq::zstd ALIAS flexq_zstd)
target_include_directories(flexq_zstd SYSTEM INTERFACE ${FLEXQ_ZSTD_INCLUDE_DIR})

# The 8-bit library, with 16- and 32-bit names left out of the header.
add_library(flexq_pcre2 INTERFACE)
add_library(flexq::pcre2 ALIAS flexq_pcre2)
target_include_directories(flexq_pcre2 SYSTEM INTERFACE ${FLEXQ_PCRE2_INCLUDE_DIR})
target_compile_definitions(flexq_pcre2 INTERFACE PCRE2_CODE_UNIT_WIDTH=8)

add_library(flexq_crypto INTERFACE)
add_library(flexq::crypto ALIAS flexq_crypto)
target_include_directories(flexq_crypto SYSTEM INTERFACE ${OPENSSL_INCLUDE_DIR})

if(FLEXQ_STATIC_DEPS)
  flexq_find_archive(FLEXQ_ZSTD_ARCHIVE libzstd.a libzstd-dev)
  flexq_find_archive(FLEXQ_PCRE2_ARCHIVE libpcre2-8.a libpcre2-dev)
  flexq_find_archive(FLEXQ_CRYPTO_ARCHIVE libcrypto.a libssl-dev)
  find_package(Threads REQUIRED)
  target_link_libraries(flexq_zstd INTERFACE ${FLEXQ_ZSTD_ARCHIVE} Threads::Threads)
  target_link_libraries(flexq_pcre2 INTERFACE ${FLEXQ_PCRE2_ARCHIVE})
  target_compile_definitions(flexq_pcre2 INTERFACE PCRE2_STATIC)
  target_link_libraries(flexq_crypto INTERFACE
    ${FLEXQ_CRYPTO_ARCHIVE} ${CMAKE_DL_LIBS} Threads::Threads)
else()
  find_library(FLEXQ_ZSTD_LIBRARY zstd REQUIRED)
  find_library(FLEXQ_PCRE2_LIBRARY pcre2-8 REQUIRED)
  mark_as_advanced(FLEXQ_ZSTD_LIBRARY FLEXQ_PCRE2_LIBRARY)
  target_link_libraries(flexq_zstd INTERFACE ${FLEXQ_ZSTD_LIBRARY})
  target_link_libraries(flexq_pcre2 INTERFACE ${FLEXQ_PCRE2_LIBRARY})
  target_link_libraries(flexq_crypto INTERFACE OpenSSL::Crypto)
endif()
