# The libraries of magvit-runtime, as far as they were built:
#
#   magvit::operators  the CPU operators; link to it, and include magvit/operators.h
#   magvit::cuda       the CUDA operators; likewise, and include magvit/cuda_operators.h
#   magvit::plugins    the TensorRT plugins; give $<TARGET_FILE:magvit::plugins> to loadLibrary
#
#   find_package(magvit REQUIRED COMPONENTS operators plugins)
include("${CMAKE_CURRENT_LIST_DIR}/magvit-targets.cmake")
foreach(component IN LISTS magvit_FIND_COMPONENTS)
  if(TARGET magvit::${component})
    set(magvit_${component}_FOUND TRUE)
  elseif(magvit_FIND_REQUIRED_${component})
    set(magvit_FOUND FALSE)
    set(magvit_NOT_FOUND_MESSAGE
        "This build of magvit has no ${component}. cuda and plugins need nvcc when magvit is built, \
and plugins TensorRT's headers; -DMAGVIT_TENSORRT=ON says what is missing.")
  endif()
endforeach()
