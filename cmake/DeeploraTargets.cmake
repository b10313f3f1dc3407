# How every library, program and test of the project is built.

add_library(deeplora_options INTERFACE)
target_compile_features(deeplora_options INTERFACE cxx_std_20)
# -fPIC for programs too: a precompiled header serves only translation units with the same flags.
target_compile_options(deeplora_options INTERFACE -Wall -Wextra -Wno-unused-parameter -fPIC)
find_program(DEEPLORA_MOLD mold)
if(DEEPLORA_MOLD)
  # gcc 12 knows -fuse-ld=mold; the rpath of LibTorch is CMake's to set.
  target_link_options(deeplora_options INTERFACE -fuse-ld=mold)
endif()
if(DEEPLORA_FUZZ)
  set(DEEPLORA_SANITIZE address,undefined)
  # A finding ends the run; a float that is cast out of range is one too.
  target_compile_options(deeplora_options INTERFACE -fsanitize=fuzzer-no-link -fsanitize=float-cast-overflow -fno-sanitize-recover=all)
endif()
if(DEEPLORA_SANITIZE)
  target_compile_definitions(deeplora_options INTERFACE DEEPLORA_SANITIZED)
  target_compile_options(deeplora_options INTERFACE -fsanitize=${DEEPLORA_SANITIZE} -fno-omit-frame-pointer -g1)
  if(DEEPLORA_SANITIZE MATCHES "undefined")
    # Checks an object's type by its typeinfo, which LibTorch hides for some of its classes.
    target_compile_options(deeplora_options INTERFACE -fno-sanitize=vptr)
  endif()
  target_link_options(deeplora_options INTERFACE -fsanitize=${DEEPLORA_SANITIZE})
endif()
find_program(DEEPLORA_CCACHE ccache)
if(DEEPLORA_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # A precompiled header needs this sloppiness, or ccache never hits.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      "CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime" "CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}"
      CCACHE_NOHASHDIR=1 ${DEEPLORA_CCACHE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-fpch-preprocess)
  endif()
endif()
if(DEEPLORA_TIDY)
  find_program(DEEPLORA_CLANG_TIDY NAMES clang-tidy clang-tidy-14 REQUIRED)
  set(CMAKE_CXX_CLANG_TIDY ${DEEPLORA_CLANG_TIDY})
endif()

# LibTorch's own flags (-D_GLIBCXX_USE_CXX11_ABI) arrive with the torch target.
set(DEEPLORA_TORCH_HEADERS <torch/torch.h> <torch/script.h>)

# deeplora_library(name sources...): static library deeplora_<name>, namespaced alias, installed headers below src/.
function(deeplora_library name)
  add_library(deeplora_${name} STATIC ${ARGN})
  add_library(deeplora::${name} ALIAS deeplora_${name})
  set_target_properties(deeplora_${name} PROPERTIES EXPORT_NAME ${name}
                        UNITY_BUILD ${DEEPLORA_UNITY} UNITY_BUILD_BATCH_SIZE 10)
  # PUBLIC: whoever includes an installed header is compiled as C++20 too, whatever its compiler's default.
  target_compile_features(deeplora_${name} PUBLIC cxx_std_20)
  target_include_directories(deeplora_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
    $<INSTALL_INTERFACE:include/deeplora>)
  target_link_libraries(deeplora_${name} PRIVATE $<BUILD_INTERFACE:deeplora_options>)
endfunction()

# Gives a target that uses LibTorch the one precompiled header of the build.
function(deeplora_use_torch_header target)
  if(NOT DEEPLORA_PCH)
    return()
  endif()
  if(target STREQUAL deeplora_core)
    target_precompile_headers(deeplora_core PRIVATE ${DEEPLORA_TORCH_HEADERS})
  else()
    target_precompile_headers(${target} REUSE_FROM deeplora_core)
  endif()
endfunction()

# The innermost loops in FOLDER, compiled once per instruction set; the program chooses when it starts. No LibTorch in there, and optimised as
# nothing else needs to be.
function(deeplora_loops target folder options)
  set(names choose loops_portable)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    set_source_files_properties(${folder}/choose.cpp PROPERTIES COMPILE_DEFINITIONS DEEPLORA_X86_LOOPS)
    set(flags_of_loops_avx2 -mavx2 -mfma)
    set(flags_of_loops_avx512 -mavx2 -mfma -mavx512f -mavx512dq -mavx512vl -mprefer-vector-width=512)
    list(APPEND names loops_avx2 loops_avx512)
  endif()
  foreach(name ${names})
    target_sources(${target} PRIVATE ${folder}/${name}.cpp)
    set_source_files_properties(${folder}/${name}.cpp PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON SKIP_PRECOMPILE_HEADERS ON
      COMPILE_OPTIONS "${options};${flags_of_${name}}")
  endforeach()
endfunction()
