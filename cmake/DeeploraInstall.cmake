# cmake --install: the program, the libraries, their headers, and the files that find_package(deeplora) reads.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(deeplora_package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/deeplora)
set(deeplora_installed_libraries)
foreach(name base core completion adapters models)
  if(TARGET deeplora_${name})
    list(APPEND deeplora_installed_libraries deeplora_${name})
  endif()
endforeach()

install(TARGETS ${deeplora_installed_libraries} EXPORT deeplora-targets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT deeplora-targets NAMESPACE deeplora:: DESTINATION ${deeplora_package_folder})
install(DIRECTORY src/ DESTINATION include/deeplora FILES_MATCHING PATTERN "*.h")
foreach(folder adapters models)
  if(IS_DIRECTORY ${PROJECT_SOURCE_DIR}/${folder})
    install(DIRECTORY ${folder} DESTINATION include/deeplora FILES_MATCHING PATTERN "*.h")
  endif()
endforeach()

configure_package_config_file(tools/packaging/deeplora-config.cmake.in ${PROJECT_BINARY_DIR}/deeplora-config.cmake
                              INSTALL_DESTINATION ${deeplora_package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/deeplora-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/deeplora-config.cmake ${PROJECT_BINARY_DIR}/deeplora-config-version.cmake
        DESTINATION ${deeplora_package_folder})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/deeplora)

if(TARGET deeplora)
  # The installed program finds LibTorch where the build found it.
  set_target_properties(deeplora PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON INSTALL_RPATH "${TORCH_INSTALL_PREFIX}/lib")
  install(TARGETS deeplora RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
