# What each kind of package holds; cpack reads this once per generator. A .deb stands alone: Debian's own LibTorch is too old.
if(CPACK_GENERATOR STREQUAL "DEB")
  set(CPACK_DEB_COMPONENT_INSTALL ON)
  set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
  set(CPACK_COMPONENTS_ALL runtime torch)
endif()
