# cmake -D TORCH=... -D MODULES=... -D WORK=... -D GENERATOR=... -D COMPILER=... -P torch_for_cuda.cmake
# A LibTorch that looks like a build for CUDA on a machine without CUDA's compiler, made of the one at hand: deeplora_find_torch() finds its
# target although its own package would stop the configuration, and a program links and runs.
include(${CMAKE_CURRENT_LIST_DIR}/run.cmake)

file(REMOVE_RECURSE ${WORK})
set(fake ${WORK}/torch)
file(MAKE_DIRECTORY ${fake}/lib ${fake}/share)
file(COPY ${TORCH}/share/cmake DESTINATION ${fake}/share)
file(CREATE_LINK ${TORCH}/include ${fake}/include SYMBOLIC)
file(GLOB libraries ${TORCH}/lib/*)
foreach(library ${libraries})
  get_filename_component(name ${library} NAME)
  file(CREATE_LINK ${library} ${fake}/lib/${name} SYMBOLIC)
endforeach()
if(NOT EXISTS ${fake}/lib/libtorch_cuda.so)
  file(TOUCH ${fake}/lib/libtorch_cuda.so)
endif()
file(WRITE ${fake}/share/cmake/Caffe2/Caffe2Config.cmake "message(FATAL_ERROR \"cannot find the CUDA libraries\")\n")

execute_process(COMMAND ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/torch_for_cuda -B ${WORK}/plain -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${COMPILER}
                -DCMAKE_PREFIX_PATH=${fake} -DPLAIN=ON RESULT_VARIABLE code OUTPUT_QUIET ERROR_VARIABLE said)
if(code EQUAL 0 OR NOT said MATCHES "cannot find the CUDA libraries")
  message(FATAL_ERROR "LibTorch's own package was expected to fail here, but said: ${said}")
endif()
run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/torch_for_cuda -B ${WORK}/build -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_PREFIX_PATH=${fake}
    -DMODULES=${MODULES})
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/threads)
if(NOT said MATCHES "^[1-9][0-9]* threads\n$")
  message(FATAL_ERROR "the program said: ${said}")
endif()
file(REMOVE_RECURSE ${WORK})
message("found, linked and run")
