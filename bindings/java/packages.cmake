# package_java: what goes to a Maven repository, into FLEXQ_PACKAGE_FOLDER/java:
#   flexq-VERSION.jar                classes
#   flexq-VERSION-linux-x86_64.jar   native libraries, for the class path beside it
#   flexq-VERSION-sources.jar        sources, generated ones too
#   flexq-VERSION-javadoc.jar
#   flexq-VERSION.pom
# The same sources give the same bytes: entries have a fixed date.
set(folder ${FLEXQ_PACKAGE_FOLDER}/java)
set(stage ${CMAKE_CURRENT_BINARY_DIR}/stage)
set(platform linux-x86_64)
set(natives_stage ${stage}/natives/org/flexq/natives/${platform})
set(sources_stage ${stage}/sources)
set(name flexq-${PROJECT_VERSION})
set(jar ${Java_JAR_EXECUTABLE} --create --date=2000-01-01T00:00:00Z)

cmake_path(GET FLEXQ_COPYRIGHT_FILE PARENT_PATH copyright_folder)

set(FLEXQ_NATIVE_NAMES libflexq.so.0 libflexq_java.so)
set(cuda_copy "")
if(FLEXQ_WITH_CUDA)
  list(INSERT FLEXQ_NATIVE_NAMES 1 libflexq_cuda.so)
  set(cuda_copy COMMAND ${CMAKE_COMMAND} -E copy
    ${FLEXQ_NATIVES_FOLDER}/libflexq_cuda.so ${natives_stage}/libflexq_cuda.so)
endif()
# The loader extracts what this list names.
list(JOIN FLEXQ_NATIVE_NAMES "\n" FLEXQ_NATIVE_NAMES)
file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/libraries.txt CONTENT "@FLEXQ_NATIVE_NAMES@\n" @ONLY)
file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/natives.manifest
  CONTENT "Automatic-Module-Name: org.flexq.natives.linux\n")
configure_file(pom.xml.in ${CMAKE_CURRENT_BINARY_DIR}/pom.xml @ONLY)

flexq_add_package(package_java
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${folder} ${stage}
  COMMAND ${CMAKE_COMMAND} -E make_directory ${folder} ${natives_stage} ${sources_stage}
  COMMAND ${jar} --file ${folder}/${name}.jar
    -C ${FLEXQ_flexq_java_classes_CLASSES} . -C ${CMAKE_SOURCE_DIR} LICENSE -C ${CMAKE_SOURCE_DIR} NOTICE
  COMMAND ${CMAKE_COMMAND} -E copy ${FLEXQ_NATIVES_FOLDER}/libflexq.so.0 ${natives_stage}/libflexq.so.0
  ${cuda_copy}
  COMMAND ${CMAKE_STRIP} --strip-unneeded $<TARGET_FILE:flexq_java> -o ${natives_stage}/libflexq_java.so
  COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_CURRENT_BINARY_DIR}/libraries.txt ${natives_stage}
  COMMAND ${jar} --file ${folder}/${name}-${platform}.jar
    --manifest ${CMAKE_CURRENT_BINARY_DIR}/natives.manifest -C ${stage}/natives .
    -C ${CMAKE_SOURCE_DIR} LICENSE -C ${CMAKE_SOURCE_DIR} NOTICE -C ${CMAKE_SOURCE_DIR} THIRD_PARTY.md
    -C ${copyright_folder} copyright
  COMMAND ${CMAKE_COMMAND} -E copy_directory ${CMAKE_CURRENT_SOURCE_DIR}/src/main/java ${sources_stage}
  COMMAND ${CMAKE_COMMAND} -E copy_directory ${generated} ${sources_stage}
  COMMAND ${jar} --file ${folder}/${name}-sources.jar -C ${sources_stage} .
  COMMAND ${Java_JAVADOC_EXECUTABLE} -quiet -Xdoclint:all -Werror --release 17 -encoding UTF-8 -notimestamp
    -d ${stage}/javadoc --module-source-path org.flexq=${sources_stage}
    --module org.flexq
  COMMAND ${jar} --file ${folder}/${name}-javadoc.jar -C ${stage}/javadoc .
  COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_CURRENT_BINARY_DIR}/pom.xml ${folder}/${name}.pom
  DEPENDS flexq_java flexq_java_classes
  COMMENT "Java packages: ${folder}")
add_dependencies(package_java package_natives)
