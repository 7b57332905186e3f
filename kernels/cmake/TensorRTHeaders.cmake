# Finds TensorRT's C++ headers, which no TensorRT wheel carries.
#
#   magvit_find_tensorrt_headers(<result> <reason>)
#
# <result> becomes the include folder, or empty with <reason> saying what was missing. Looked at in
# this order:
#   1. -DTENSORRT_INCLUDE_DIR=<folder>
#   2. the system: libnvinfer-headers-dev, or an unpacked TensorRT in TENSORRT_ROOT
#   3. -DMAGVIT_DOWNLOAD_HEADERS=ON: NVIDIA's Apache-2.0 headers of TensorRT 10.14, as the wheel
#      kernel-lens 2.0.1 carries them; unpacked into the build folder, never installed

set(MAGVIT_TENSORRT_OLDEST 10.13)
set(MAGVIT_HEADERS_WHEEL kernel_lens-2.0.1-py3-none-any.whl)
set(MAGVIT_HEADERS_SHA256 07cc714e8b5e7f34b672f7c7fad93febe7c747be5837ba276b1527370134ffe0)

# The version that the headers in `folder` state, as "10.14"; empty where there is none.
function(magvit_tensorrt_version folder result)
  set(version "")
  if(EXISTS "${folder}/NvInferVersion.h")
    file(READ "${folder}/NvInferVersion.h" text)
    # Before 10.12 the numbers stood in NV_TENSORRT_*; since then in TRT_*_ENTERPRISE.
    if(text MATCHES "define (TRT_MAJOR_ENTERPRISE|NV_TENSORRT_MAJOR) ([0-9]+)")
      set(version "${CMAKE_MATCH_2}")
    endif()
    if(text MATCHES "define (TRT_MINOR_ENTERPRISE|NV_TENSORRT_MINOR) ([0-9]+)")
      set(version "${version}.${CMAKE_MATCH_2}")
    endif()
  endif()
  set(${result} "${version}" PARENT_SCOPE)
endfunction()

# Downloads the wheel once, checks its hash and unpacks its headers.
function(magvit_download_headers result reason)
  set(folder "${CMAKE_BINARY_DIR}/tensorrt_headers")
  set(wheel "${folder}/${MAGVIT_HEADERS_WHEEL}")
  if(NOT EXISTS "${wheel}")
    find_program(MAGVIT_PYTHON NAMES python3 python REQUIRED)
    execute_process(
      COMMAND "${MAGVIT_PYTHON}" -m pip download --quiet --disable-pip-version-check --no-deps
              --only-binary :all: --dest "${folder}" kernel-lens==2.0.1
      RESULT_VARIABLE failed ERROR_VARIABLE message)
    if(failed)
      set(${reason} "the download of kernel-lens==2.0.1 failed: ${message}" PARENT_SCOPE)
      return()
    endif()
  endif()
  file(SHA256 "${wheel}" found)
  if(NOT found STREQUAL MAGVIT_HEADERS_SHA256)
    set(${reason} "${wheel} has SHA-256 ${found}, expected ${MAGVIT_HEADERS_SHA256}; remove it"
        PARENT_SCOPE)
    return()
  endif()
  file(ARCHIVE_EXTRACT INPUT "${wheel}" DESTINATION "${folder}"
       PATTERNS "kernel_lens/include/tensorrt/*.h")
  set(${result} "${folder}/kernel_lens/include/tensorrt" PARENT_SCOPE)
endfunction()

function(magvit_find_tensorrt_headers result reason)
  set(${result} "" PARENT_SCOPE)
  set(found "")
  if(TENSORRT_INCLUDE_DIR)
    set(found "${TENSORRT_INCLUDE_DIR}")
  else()
    find_path(MAGVIT_SYSTEM_TENSORRT NvInferRuntime.h
              HINTS "${TENSORRT_ROOT}" ENV TENSORRT_ROOT PATH_SUFFIXES include)
    if(MAGVIT_SYSTEM_TENSORRT)
      set(found "${MAGVIT_SYSTEM_TENSORRT}")
    elseif(MAGVIT_DOWNLOAD_HEADERS)
      magvit_download_headers(found why)
    else()
      set(why "no TensorRT headers; give -DTENSORRT_INCLUDE_DIR=<folder of NvInferRuntime.h>, \
install libnvinfer-headers-dev, or allow a download by -DMAGVIT_DOWNLOAD_HEADERS=ON")
    endif()
  endif()

  if(found)
    magvit_tensorrt_version("${found}" version)
    if(NOT version)
      set(why "${found} holds no NvInferVersion.h of TensorRT")
    elseif(version VERSION_LESS MAGVIT_TENSORRT_OLDEST)
      set(why "${found} is TensorRT ${version}; ${MAGVIT_TENSORRT_OLDEST} or newer is needed")
    else()
      message(STATUS "TensorRT headers: ${version} in ${found}")
      set(${result} "${found}" PARENT_SCOPE)
    endif()
  endif()
  set(${reason} "${why}" PARENT_SCOPE)
endfunction()
