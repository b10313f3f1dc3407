# Run behind the link of the program: docs/reference.md is what it prints, so that a key needs no edit there.
# PROGRAM: the program; TABLE: the file. A program that cannot run here (another machine's) leaves the file alone.
execute_process(COMMAND "${PROGRAM}" reference config OUTPUT_VARIABLE printed RESULT_VARIABLE failed ERROR_QUIET)
if(failed)
  message(WARNING "${PROGRAM} does not run here (${failed}): ${TABLE} was not written anew")
  return()
endif()
set(before "")
if(EXISTS "${TABLE}")
  file(READ "${TABLE}" before)
endif()
if(NOT printed STREQUAL before)
  file(WRITE "${TABLE}" "${printed}")
endif()
