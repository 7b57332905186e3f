# The installed tree as projects outside this one use it, after it was moved from where it was
# installed to.
set(tree "${CMAKE_CURRENT_BINARY_DIR}/tree")
set(outside "${CMAKE_CURRENT_SOURCE_DIR}/outside_project")
set(components operators)
if(TARGET magvit_cuda)
  list(APPEND components cuda)
endif()
if(TARGET magvit_plugins)
  list(APPEND components plugins)
endif()

add_test(NAME installed_tree
         COMMAND sh -ec "rm -rf '${tree}'; '${CMAKE_COMMAND}' --install '${CMAKE_BINARY_DIR}' \
--prefix '${tree}/first'; mv '${tree}/first' '${tree}/moved'")
set_tests_properties(installed_tree PROPERTIES FIXTURES_SETUP installed_tree)

# Configures and builds a project against the tree, with warnings as errors.
function(magvit_outside_build name source)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "OPTIONS;COMMAND")
  add_test(NAME ${name}
           COMMAND "${CMAKE_CTEST_COMMAND}" --build-and-test "${source}"
                   "${CMAKE_CURRENT_BINARY_DIR}/${name}" --build-generator "${CMAKE_GENERATOR}"
                   --build-makeprogram "${CMAKE_MAKE_PROGRAM}" --build-options
                   "-DCMAKE_PREFIX_PATH=${tree}/moved" "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror"
                   "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror" ${arg_OPTIONS} --test-command
                   ${arg_COMMAND})
  set_tests_properties(${name} PROPERTIES FIXTURES_REQUIRED installed_tree)
endfunction()

list(JOIN components "\\;" all)
magvit_outside_build(outside_cmake_project "${outside}" OPTIONS "-DCOMPONENTS=${all}" COMMAND
                     outside)
magvit_outside_build(outside_cmake_project_without "${outside}" OPTIONS -DCOMPONENTS=nonsense
                     COMMAND outside)
set_tests_properties(outside_cmake_project_without
                     PROPERTIES PASS_REGULAR_EXPRESSION "This build of magvit has no nonsense")

find_program(MAGVIT_PKG_CONFIG NAMES pkg-config pkgconf)
if(MAGVIT_PKG_CONFIG)
  set(build "${CMAKE_C_COMPILER} -Wall -Wextra -Werror '${outside}/outside.c' -o outside_pkg_config")
  foreach(name ${components})
    string(APPEND build " $($pkg --cflags --libs magvit-${name})")
    string(APPEND build " -Wl,-rpath,$($pkg --variable=libdir magvit-${name})")
  endforeach()
  if(TARGET magvit_cuda)
    string(APPEND build " -DHAS_CUDA")
  endif()
  if(TARGET magvit_plugins)
    string(APPEND build " -ldl -DPLUGINS=\"\\\"$($pkg --variable=library magvit-plugins)\\\"\"")
  endif()
  add_test(NAME outside_pkg_config
           COMMAND sh -ec "pkg='${MAGVIT_PKG_CONFIG}'; ${build}; ./outside_pkg_config")
  set_tests_properties(
    outside_pkg_config
    PROPERTIES FIXTURES_REQUIRED installed_tree ENVIRONMENT
               "PKG_CONFIG_PATH=${tree}/moved/${CMAKE_INSTALL_LIBDIR}/pkgconfig")
endif()

# examples/cpp, linked to the dispatch runtime of the headers' major version, where Makefile has put
# it. Without a GPU the program must end with a sentence; with one, it must miss its file.
if(TARGET magvit_plugins)
  file(GLOB dispatch "${PROJECT_SOURCE_DIR}/build/dispatch-${tensorrt_major}.*/tensorrt_dispatch_libs/\
libnvinfer_dispatch.so.${tensorrt_major}")
endif()
if(dispatch)
  get_target_property(includes magvit_tensorrt_headers INTERFACE_INCLUDE_DIRECTORIES)
  list(GET includes 0 tensorrt_include_dir)
  magvit_outside_build(
    cpp_example "${PROJECT_SOURCE_DIR}/examples/cpp"
    OPTIONS "-DTENSORRT_LIBRARY=${dispatch}" "-DTENSORRT_INCLUDE_DIR=${tensorrt_include_dir}"
            "-DCUDAToolkit_ROOT=${CUDAToolkit_BIN_DIR}/.."
    COMMAND sh -c "./tokenize no.plan no.raw no.ids 2> said; test $? = 1 && cat said && grep -Eqx \
'Looking for an NVIDIA GPU and its driver failed. CUDA says: .+[.]|no.plan can.t be read[.]' said")
endif()
