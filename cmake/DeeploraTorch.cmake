# deeplora_find_torch(): LibTorch as the target `torch`, with Torch_FOUND, Torch_VERSION, Torch_DIR and TORCH_INSTALL_PREFIX.
#
# Looks in Torch_DIR, then in CMAKE_PREFIX_PATH. Of a build for CUDA (what pip installs on Linux unless told otherwise), LibTorch's own package stops
# the configuration where CUDA's compiler is missing or is another version's, although nothing here is compiled by it: of such a build the targets are
# taken straight from the package's list. CUDA itself comes with LibTorch's libraries.

# Every target that the list links and does not make: CUDA's runtime, MKL, protobuf. LibTorch's libraries bring what they need of them.
function(deeplora_stand_ins list)
  file(STRINGS ${list} lines REGEX "INTERFACE_LINK_LIBRARIES")
  string(REGEX MATCHALL "[A-Za-z0-9_]+::[A-Za-z0-9_]+" names "${lines}")
  list(REMOVE_DUPLICATES names)
  foreach(name ${names})
    if(NOT TARGET ${name})
      add_library(${name} INTERFACE IMPORTED GLOBAL)
    endif()
  endforeach()
endfunction()

# A macro, since the package's variables are meant for the caller.
macro(deeplora_find_torch)
  unset(deeplora_torch_config CACHE)
  find_file(deeplora_torch_config TorchConfig.cmake HINTS ${Torch_DIR} $ENV{Torch_DIR} PATHS ${CMAKE_PREFIX_PATH} ENV CMAKE_PREFIX_PATH
            PATH_SUFFIXES Torch share/cmake/Torch NO_DEFAULT_PATH)
  get_filename_component(deeplora_torch_folder "${deeplora_torch_config}" DIRECTORY)
  get_filename_component(deeplora_torch_prefix "${deeplora_torch_folder}/../../.." ABSOLUTE)
  if(deeplora_torch_config AND EXISTS "${deeplora_torch_prefix}/lib/libtorch_cuda.so")
    set(Torch_DIR "${deeplora_torch_folder}" CACHE PATH "" FORCE)
    set(TORCH_INSTALL_PREFIX "${deeplora_torch_prefix}")
    set(TORCH_INCLUDE_DIRS ${TORCH_INSTALL_PREFIX}/include ${TORCH_INSTALL_PREFIX}/include/torch/csrc/api/include)
    include("${Torch_DIR}/TorchConfigVersion.cmake")
    set(Torch_VERSION "${PACKAGE_VERSION}")
    deeplora_stand_ins("${Torch_DIR}/../Caffe2/Caffe2Targets.cmake")
    include("${Torch_DIR}/../Caffe2/Caffe2Targets.cmake")
    set_target_properties(torch PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${TORCH_INCLUDE_DIRS}")
    set(Torch_FOUND TRUE)
  else()
    find_package(Torch QUIET)
  endif()
endmacro()
