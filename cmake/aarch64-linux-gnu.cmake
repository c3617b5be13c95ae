# Cross build for aarch64 with Debian's compiler (g++-aarch64-linux-gnu). Libraries come from the
# folder that tools/arm64-libraries.sh fills; flatc, and libraries that are headers only, from this
# machine. Programs run under qemu-user.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -L /usr/aarch64-linux-gnu)

set(FLEXQ_ARM64_LIBRARIES ${CMAKE_CURRENT_LIST_DIR}/../build/arm64-libraries)
cmake_path(ABSOLUTE_PATH FLEXQ_ARM64_LIBRARIES NORMALIZE)
set(CMAKE_FIND_ROOT_PATH ${FLEXQ_ARM64_LIBRARIES})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)

# OpenSSL's configuration differs between processors; Debian keeps it in a folder of its own.
set(CMAKE_C_FLAGS_INIT "-isystem ${FLEXQ_ARM64_LIBRARIES}/usr/include/aarch64-linux-gnu")
set(CMAKE_CXX_FLAGS_INIT "${CMAKE_C_FLAGS_INIT}")
