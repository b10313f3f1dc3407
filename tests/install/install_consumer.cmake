# cmake -D BUILD=... -D WORK=... -D GENERATOR=... -D COMPILER=... -D LAUNCHER=... -P install_consumer.cmake
# Installs the build into an empty prefix, then configures, builds and runs the consumer against nothing but that prefix.
include(${CMAKE_CURRENT_LIST_DIR}/run.cmake)

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${WORK}/build -G ${GENERATOR} -DCMAKE_BUILD_TYPE=Release
    -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER} -DCMAKE_PREFIX_PATH=${WORK}/prefix)
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/consumer)
if(NOT said MATCHES "^deep-lora of [0-9]+ methods, [1-9][0-9]* families, streams repeat\n$")
  message(FATAL_ERROR "the consumer said: ${said}")
endif()
run(${WORK}/prefix/bin/deeplora --version)
if(NOT said MATCHES "^deeplora [0-9.]+ on LibTorch ")
  message(FATAL_ERROR "the installed program said: ${said}")
endif()
file(REMOVE_RECURSE ${WORK})
message("installed, found, built and run")
