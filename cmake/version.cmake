# The version comes from git and is compiled into one file, so that a new commit rebuilds only that.
execute_process(
  COMMAND git describe --tags --always --dirty
  WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
  OUTPUT_VARIABLE NEMO_VERSION
  OUTPUT_STRIP_TRAILING_WHITESPACE
  ERROR_QUIET)
if(NOT NEMO_VERSION)
  set(NEMO_VERSION "unknown")
endif()
configure_file(${CMAKE_SOURCE_DIR}/cmake/version.cpp.in ${CMAKE_BINARY_DIR}/version.cpp @ONLY)
add_library(nemo_version STATIC ${CMAKE_BINARY_DIR}/version.cpp)
target_include_directories(nemo_version PUBLIC ${CMAKE_SOURCE_DIR})
