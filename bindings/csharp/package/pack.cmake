# cmake -DSTAGE=FOLDER -DPACKAGE=FILE.nupkg -P pack.cmake: zips the files of a folder, in
# alphabetical order and without entries for folders, which OPC does not know.
file(GLOB_RECURSE files LIST_DIRECTORIES false RELATIVE ${STAGE} ${STAGE}/*)
list(SORT files)
list(JOIN files "\n" names)
file(WRITE ${STAGE}.txt "${names}\n")
execute_process(
  COMMAND ${CMAKE_COMMAND} -E tar cf ${PACKAGE} --format=zip "--mtime=2000-01-01 00:00:00 UTC"
    --files-from=${STAGE}.txt
  WORKING_DIRECTORY ${STAGE} COMMAND_ERROR_IS_FATAL ANY)
