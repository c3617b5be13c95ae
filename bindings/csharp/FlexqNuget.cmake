# package_csharp: FlexQ.VERSION.nupkg in FLEXQ_PACKAGE_FOLDER/csharp. A NuGet package is a zip file
# by the Open Packaging Conventions: the nuspec, lib/ and runtimes/ of NuGet, and
# [Content_Types].xml and _rels/.rels of OPC, which NuGet's own tools would write.
set(folder ${FLEXQ_PACKAGE_FOLDER}/csharp)
set(stage ${FLEXQ_CSHARP_FOLDER}/package)
set(natives ${stage}/runtimes/linux-x64/native)
set(package ${folder}/FlexQ.${PROJECT_VERSION}.nupkg)
cmake_path(GET FLEXQ_COPYRIGHT_FILE PARENT_PATH copyright_folder)

set(cuda_copy "")
if(FLEXQ_WITH_CUDA)
  set(cuda_copy COMMAND ${CMAKE_COMMAND} -E copy
    ${FLEXQ_NATIVES_FOLDER}/libflexq_cuda.so ${natives}/libflexq_cuda.so)
endif()

# Files that are the same in every package but for the version.
set(fixed ${FLEXQ_CSHARP_FOLDER}/package_fixed)
configure_file(package/FlexQ.nuspec.in ${fixed}/FlexQ.nuspec @ONLY)
configure_file(package/content_types.xml "${fixed}/[Content_Types].xml" COPYONLY)
configure_file(package/core_properties.psmdcp.in
  ${fixed}/package/services/metadata/core-properties/FlexQ.psmdcp @ONLY)
configure_file(package/rels.xml ${fixed}/_rels/.rels COPYONLY)
configure_file(package/FlexQ.targets ${fixed}/build/net47/FlexQ.targets COPYONLY)
configure_file(package/README.md ${fixed}/README.md COPYONLY)

set(assembly_copies "")
foreach(framework IN ITEMS net47 netstandard2.0)
  list(APPEND assembly_copies
    COMMAND ${CMAKE_COMMAND} -E make_directory ${stage}/lib/${framework}
    COMMAND ${CMAKE_COMMAND} -E copy ${FLEXQ_CSHARP_FOLDER}/FlexQ.dll
      ${FLEXQ_CSHARP_FOLDER}/FlexQ.xml ${stage}/lib/${framework})
endforeach()

flexq_add_package(package_csharp
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${folder} ${stage}
  COMMAND ${CMAKE_COMMAND} -E make_directory ${folder} ${natives}
  COMMAND ${CMAKE_COMMAND} -E copy_directory ${fixed} ${stage}
  ${assembly_copies}
  COMMAND ${CMAKE_COMMAND} -E copy ${FLEXQ_NATIVES_FOLDER}/libflexq.so.0 ${natives}/libflexq.so.0
  ${cuda_copy}
  COMMAND ${CMAKE_STRIP} --strip-unneeded $<TARGET_FILE:flexq_csharp>
    -o ${natives}/libflexq_csharp.so
  COMMAND ${CMAKE_COMMAND} -E copy_directory ${CMAKE_CURRENT_SOURCE_DIR}/FlexQ ${stage}/src/FlexQ
  COMMAND ${CMAKE_COMMAND} -E copy_directory ${FLEXQ_CSHARP_GENERATED} ${stage}/src/generated
  COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_CURRENT_SOURCE_DIR}/FlexQ.csproj
    ${FLEXQ_CSHARP_FOLDER}/AssemblyInfo.cs ${stage}/src
  COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_SOURCE_DIR}/LICENSE ${CMAKE_SOURCE_DIR}/NOTICE
    ${CMAKE_SOURCE_DIR}/THIRD_PARTY.md ${copyright_folder}/copyright ${stage}
  COMMAND ${CMAKE_COMMAND} -DSTAGE=${stage} -DPACKAGE=${package}
    -P ${CMAKE_CURRENT_SOURCE_DIR}/package/pack.cmake
  DEPENDS flexq_csharp flexq_csharp_assembly
  COMMENT "NuGet package: ${package}")
add_dependencies(package_csharp package_natives)
