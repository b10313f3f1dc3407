# cmake --install: the program and what it brings (component runtime); the libraries, their headers and the files that find_package(deeplora)
# reads (development); LibTorch beside the program for packages that stand alone (torch, only when asked for).
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)  # cpack packs what is built, which need not be the tests

set(deeplora_package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/deeplora)
set(deeplora_installed_libraries)
foreach(name base core completion adapters models library)
  if(TARGET deeplora_${name})
    list(APPEND deeplora_installed_libraries deeplora_${name})
  endif()
endforeach()

install(TARGETS ${deeplora_installed_libraries} EXPORT deeplora-targets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(EXPORT deeplora-targets NAMESPACE deeplora:: DESTINATION ${deeplora_package_folder} COMPONENT development)
# deeplora/deeplora.h for applications; the rest is what it stands on, for those who add to it.
install(DIRECTORY src/library/include/ DESTINATION include COMPONENT development)
install(DIRECTORY src/ DESTINATION include/deeplora COMPONENT development FILES_MATCHING PATTERN "*.h" PATTERN "library" EXCLUDE)
foreach(folder adapters models)
  if(IS_DIRECTORY ${PROJECT_SOURCE_DIR}/${folder})
    install(DIRECTORY ${folder} DESTINATION include/deeplora COMPONENT development FILES_MATCHING PATTERN "*.h")
  endif()
endforeach()

configure_package_config_file(tools/packaging/deeplora-config.cmake.in ${PROJECT_BINARY_DIR}/deeplora-config.cmake
                              INSTALL_DESTINATION ${deeplora_package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/deeplora-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/deeplora-config.cmake ${PROJECT_BINARY_DIR}/deeplora-config-version.cmake cmake/DeeploraTorch.cmake
        DESTINATION ${deeplora_package_folder} COMPONENT development)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/deeplora COMPONENT runtime)
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/deeplora COMPONENT runtime)
# Configurations name their data as they lie in the tree: both are used from this folder, or from a copy of it.
set(deeplora_share ${CMAKE_INSTALL_DATADIR}/deeplora)
install(DIRECTORY configs data DESTINATION ${deeplora_share} COMPONENT runtime)
install(PROGRAMS tools/export_torchscript.py tools/make_sentiment_classes.py DESTINATION ${deeplora_share}/tools COMPONENT runtime)
install(FILES tools/torch_exporting.py tools/torchscript_tracing.py DESTINATION ${deeplora_share}/tools COMPONENT runtime)
install(DIRECTORY tools/examples DESTINATION ${deeplora_share} COMPONENT runtime)

if(TARGET deeplora)
  file(WRITE ${PROJECT_BINARY_DIR}/generated/libtorch-version "${Torch_VERSION}\n")
  install(FILES ${PROJECT_BINARY_DIR}/generated/libtorch-version DESTINATION ${deeplora_share} COMPONENT runtime)
  if(SKBUILD)  # inside a wheel, the program lies at deeplora/bin beside torch
    set_target_properties(deeplora PROPERTIES INSTALL_RPATH "$ORIGIN/../../torch/lib")
  else()  # LibTorch where the build found it, unless it lies beside the program
    set_target_properties(deeplora PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}/deeplora;${TORCH_INSTALL_PREFIX}/lib")
  endif()
  install(TARGETS deeplora RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
  # The manual page and the shells' completions come from the program's own tables.
  set(deeplora_pages "man:${CMAKE_INSTALL_MANDIR}/man1/deeplora.1" "bash:${CMAKE_INSTALL_DATADIR}/bash-completion/completions/deeplora"
    "zsh:${CMAKE_INSTALL_DATADIR}/zsh/site-functions/_deeplora" "fish:${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d/deeplora.fish")
  foreach(page ${deeplora_pages})
    string(REGEX MATCH "^([a-z]+):(.*)/([^/]+)$" unused "${page}")
    set(made "${PROJECT_BINARY_DIR}/generated/pages/${CMAKE_MATCH_1}/${CMAKE_MATCH_3}")
    install(CODE "file(MAKE_DIRECTORY \"${PROJECT_BINARY_DIR}/generated/pages/${CMAKE_MATCH_1}\")
      execute_process(COMMAND \"$<TARGET_FILE:deeplora>\" reference ${CMAKE_MATCH_1} OUTPUT_FILE \"${made}\" COMMAND_ERROR_IS_FATAL ANY)"
      COMPONENT runtime)
    install(FILES ${made} DESTINATION ${CMAKE_MATCH_2} COMPONENT runtime)
  endforeach()
  set(DEEPLORA_TORCH_FOR_CUDA OFF)
  if(TARGET torch_cuda)
    set(DEEPLORA_TORCH_FOR_CUDA ON)
  endif()
  configure_file(tools/packaging/install_torch.cmake.in ${PROJECT_BINARY_DIR}/generated/install_torch.cmake @ONLY)
  install(CODE "set(program \"$<TARGET_FILE:deeplora>\")\ninclude(\"${PROJECT_BINARY_DIR}/generated/install_torch.cmake\")" COMPONENT torch EXCLUDE_FROM_ALL)
endif()

# A release: `cpack` in the build folder packs what is installed, `cpack -G DEB` the program with LibTorch,
# `cpack --config CPackSourceConfig.cmake` the sources.
set(CPACK_GENERATOR TGZ)
set(CPACK_SOURCE_GENERATOR TGZ)
set(CPACK_PACKAGE_VENDOR "deeplora")
set(CPACK_PACKAGE_CONTACT "the deeplora maintainers <deeplora@localhost>")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_PROJECT_CONFIG_FILE ${PROJECT_SOURCE_DIR}/tools/packaging/cpack_generators.cmake)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_COMPRESSION_TYPE zstd)  # LibTorch is large
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${TORCH_INSTALL_PREFIX}/lib)
set(CPACK_SOURCE_PACKAGE_FILE_NAME "deeplora-${PROJECT_VERSION}-source")
set(CPACK_SOURCE_IGNORE_FILES "/\\.git/;/\\.venv/;/build[^/]*/;/dist/;/runs/;/shared/;__pycache__;/\\.pytest_cache/;/_CPack_Packages/")
include(CPack)
