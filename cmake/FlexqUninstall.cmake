# Removes what the last `cmake --install` of a build wrote, and FlexQ's own folders where that leaves
# them empty (the target uninstall):
#   cmake -DBUILD=build/release -DFOLDERS="share/flexq|..." -P cmake/FlexqUninstall.cmake
file(GLOB manifests ${BUILD}/install_manifest*.txt)
if(NOT manifests)
  message(FATAL_ERROR "expected install_manifest.txt in ${BUILD}, found none: nothing was installed")
endif()

set(folders "")
foreach(manifest IN LISTS manifests)
  file(STRINGS ${manifest} paths)
  foreach(path IN LISTS paths)
    set(path $ENV{DESTDIR}${path})
    if(EXISTS ${path} OR IS_SYMLINK ${path})
      message(STATUS "Removing: ${path}")
      file(REMOVE ${path})
    endif()
    cmake_path(GET path PARENT_PATH folder)
    while(folder MATCHES "/(${FOLDERS})(/|$)")
      list(APPEND folders ${folder})
      cmake_path(GET folder PARENT_PATH folder)
    endwhile()
  endforeach()
  file(REMOVE ${manifest})
endforeach()

# The deepest first; rmdir leaves what is not empty.
list(REMOVE_DUPLICATES folders)
list(SORT folders ORDER DESCENDING)
foreach(folder IN LISTS folders)
  execute_process(COMMAND rmdir ${folder} ERROR_QUIET)
endforeach()
