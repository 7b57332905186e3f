# Installs the libraries with their headers, and what other projects find them by: a CMake package
# (`find_package(magvit)`) and a pkg-config file for each library. The tree can be moved.
#
#   magvit_install(<name> <description>)    the library of target magvit_<name>
#   magvit_install_package()                the rest, after all libraries
#
# compiled_in.json, beside the package, states what of others became part of the libraries: the version
# of each, or null. A release's bill of materials is made from it.

# In a wheel, all of it lies beside the Python modules.
if(DEFINED SKBUILD)
  set(CMAKE_INSTALL_LIBDIR magvit_runtime/lib)
  set(CMAKE_INSTALL_INCLUDEDIR magvit_runtime/include)
endif()
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)
set(MAGVIT_CMAKE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/magvit")
set(MAGVIT_PKGCONFIG_DIR "${CMAKE_INSTALL_LIBDIR}/pkgconfig")

function(magvit_install name description)
  set(target magvit_${name})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(
    ${target} INTERFACE "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/kernels/include>"
                        "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
  install(TARGETS ${target} EXPORT magvit LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")

  # TensorRT loads the plugins by their path; nothing links to them.
  set(libs "-L\${libdir} -l${target}")
  if(name STREQUAL "plugins")
    set(libs "")
  endif()
  file(RELATIVE_PATH up "/${MAGVIT_PKGCONFIG_DIR}" "/")
  configure_file("${PROJECT_SOURCE_DIR}/kernels/cmake/magvit.pc.in" magvit-${name}.pc @ONLY)
  install(FILES "${CMAKE_CURRENT_BINARY_DIR}/magvit-${name}.pc"
          DESTINATION "${MAGVIT_PKGCONFIG_DIR}")
endfunction()

function(magvit_compiled_in result)
  set(gcc "")
  set(zig "")
  set(zig_llvm "")
  if(MAGVIT_ZIG)
    set(gcc "${CMAKE_CXX_COMPILER_VERSION}")
    execute_process(COMMAND "${MAGVIT_ZIG}" version OUTPUT_VARIABLE zig
                    OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
    execute_process(COMMAND "${MAGVIT_ZIG}" cc --version OUTPUT_VARIABLE about
                    COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX MATCH "clang version ([0-9.]+)" about "${about}")
    set(zig_llvm "${CMAKE_MATCH_1}")
  endif()
  set(cuda "${CMAKE_CUDA_COMPILER_VERSION}")
  set(tensorrt_headers "")
  if(TARGET magvit_tensorrt_headers)
    get_target_property(tensorrt_headers magvit_tensorrt_headers TENSORRT_VERSION)
  endif()
  set(facts "{}")
  foreach(name gcc zig zig_llvm cuda tensorrt_headers)
    set(value null)
    if(${name})
      set(value "\"${${name}}\"")
    endif()
    string(JSON facts SET "${facts}" ${name} "${value}")
  endforeach()
  set(${result} "${facts}" PARENT_SCOPE)
endfunction()

function(magvit_install_package)
  magvit_compiled_in(facts)
  file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/compiled_in.json" "${facts}\n")
  install(DIRECTORY include/magvit DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
  install(EXPORT magvit NAMESPACE magvit:: FILE magvit-targets.cmake
          DESTINATION "${MAGVIT_CMAKE_DIR}")
  write_basic_package_version_file(magvit-config-version.cmake COMPATIBILITY SameMinorVersion)
  install(FILES cmake/magvit-config.cmake
                "${CMAKE_CURRENT_BINARY_DIR}/magvit-config-version.cmake"
                "${CMAKE_CURRENT_BINARY_DIR}/compiled_in.json"
          DESTINATION "${MAGVIT_CMAKE_DIR}")
endfunction()
