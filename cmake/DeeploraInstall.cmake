# cmake --install: the program, the libraries, their headers, and the files that find_package(deeplora) reads.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(deeplora_package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/deeplora)
set(deeplora_installed_libraries)
foreach(name base core completion adapters models library)
  if(TARGET deeplora_${name})
    list(APPEND deeplora_installed_libraries deeplora_${name})
  endif()
endforeach()

install(TARGETS ${deeplora_installed_libraries} EXPORT deeplora-targets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT deeplora-targets NAMESPACE deeplora:: DESTINATION ${deeplora_package_folder})
# deeplora/deeplora.h for applications; the rest is what it stands on, for those who add to it.
install(DIRECTORY src/library/include/ DESTINATION include)
install(DIRECTORY src/ DESTINATION include/deeplora FILES_MATCHING PATTERN "*.h" PATTERN "library" EXCLUDE)
foreach(folder adapters models)
  if(IS_DIRECTORY ${PROJECT_SOURCE_DIR}/${folder})
    install(DIRECTORY ${folder} DESTINATION include/deeplora FILES_MATCHING PATTERN "*.h")
  endif()
endforeach()

configure_package_config_file(tools/packaging/deeplora-config.cmake.in ${PROJECT_BINARY_DIR}/deeplora-config.cmake
                              INSTALL_DESTINATION ${deeplora_package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/deeplora-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/deeplora-config.cmake ${PROJECT_BINARY_DIR}/deeplora-config-version.cmake cmake/DeeploraTorch.cmake
        DESTINATION ${deeplora_package_folder})
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/deeplora)
install(DIRECTORY docs configs DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/deeplora)

if(TARGET deeplora)
  # The installed program finds LibTorch where the build found it.
  set_target_properties(deeplora PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON INSTALL_RPATH "${TORCH_INSTALL_PREFIX}/lib")
  install(TARGETS deeplora RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  # The manual page and the shells' completions come from the program's own tables.
  set(deeplora_pages "man:${CMAKE_INSTALL_MANDIR}/man1/deeplora.1" "bash:${CMAKE_INSTALL_DATADIR}/bash-completion/completions/deeplora"
    "zsh:${CMAKE_INSTALL_DATADIR}/zsh/site-functions/_deeplora" "fish:${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d/deeplora.fish")
  foreach(page ${deeplora_pages})
    string(REGEX MATCH "^([a-z]+):(.*)/([^/]+)$" unused "${page}")
    set(made "${PROJECT_BINARY_DIR}/generated/pages/${CMAKE_MATCH_1}/${CMAKE_MATCH_3}")
    install(CODE "file(MAKE_DIRECTORY \"${PROJECT_BINARY_DIR}/generated/pages/${CMAKE_MATCH_1}\")
      execute_process(COMMAND \"$<TARGET_FILE:deeplora>\" reference ${CMAKE_MATCH_1} OUTPUT_FILE \"${made}\" COMMAND_ERROR_IS_FATAL ANY)")
    install(FILES ${made} DESTINATION ${CMAKE_MATCH_2})
  endforeach()
endif()

# A release: `cpack --config build/CPackConfig.cmake` packs what is installed, `cpack --config build/CPackSourceConfig.cmake` the sources.
set(CPACK_GENERATOR TGZ)
set(CPACK_SOURCE_GENERATOR TGZ)
set(CPACK_PACKAGE_VENDOR "deeplora")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_SOURCE_PACKAGE_FILE_NAME "deeplora-${PROJECT_VERSION}-source")
set(CPACK_SOURCE_IGNORE_FILES "/\\.git/;/\\.venv/;/build[^/]*/;/runs/;/shared/;__pycache__;/\\.pytest_cache/;/_CPack_Packages/")
include(CPack)
