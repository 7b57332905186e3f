# Looks for a CUDA compiler without failing where there is none, and settles which GPUs to compile
# for before the language is enabled (CMake's own default is one old architecture).
#
#   magvit_enable_cuda(<found>)

# Turing to Blackwell, as far as the compiler knows them; SM 8.7 and 10.3 run the code of their
# family. PTX of the newest lets later GPUs compile at load time.
set(MAGVIT_GPU_ARCHITECTURES 75 80 86 89 90 100 120)

macro(magvit_enable_cuda found)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    find_program(MAGVIT_NVCC NAMES nvcc HINTS "${CMAKE_CUDA_COMPILER}" ENV CUDACXX
                 PATHS /usr/local/cuda PATH_SUFFIXES bin)
    set(CMAKE_CUDA_ARCHITECTURES "")
    if(MAGVIT_NVCC)
      execute_process(COMMAND "${MAGVIT_NVCC}" --list-gpu-arch OUTPUT_VARIABLE known)
      foreach(architecture ${MAGVIT_GPU_ARCHITECTURES})
        if(known MATCHES "compute_${architecture}\n")
          list(APPEND CMAKE_CUDA_ARCHITECTURES ${architecture}-real)
          set(newest ${architecture})
        endif()
      endforeach()
      list(APPEND CMAKE_CUDA_ARCHITECTURES ${newest}-virtual)
    endif()
  endif()

  include(CheckLanguage)
  if(NOT MAGVIT_SANITIZE)
    check_language(CUDA)
  endif()
  set(${found} OFF)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    set(${found} ON)
    message(STATUS "CUDA ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
  endif()
endmacro()
