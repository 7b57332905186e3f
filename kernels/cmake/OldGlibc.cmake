# Links libraries that run with glibc 2.28, whatever glibc is here; for wheels. They are compiled as
# ever. zig (PyPI's ziglang) links them, because it knows which symbols each glibc has; a symbol that
# 2.28 lacks is an error. libstdc++, libgcc (without which __builtin_cpu_supports finds nothing) and
# zig's unwinder (libgcc's wants glibc 2.35) become parts of the libraries.
set(MAGVIT_ZIG "" CACHE FILEPATH "zig, which then links the libraries for glibc 2.28")

macro(magvit_link_for_old_glibc)
  if(MAGVIT_ZIG)
    set(runtimes "")
    foreach(name libstdc++.a libgcc.a)
      execute_process(COMMAND "${CMAKE_CXX_COMPILER}" -print-file-name=${name}
                      OUTPUT_VARIABLE file OUTPUT_STRIP_TRAILING_WHITESPACE)
      string(APPEND runtimes " ${file}")
    endforeach()
    # Sections that nothing uses are left out, and with them what libstdc++.a wants of newer glibc.
    set(rule "\"${MAGVIT_ZIG}\" cc -target ${CMAKE_SYSTEM_PROCESSOR}-linux-gnu.2.28 -O2 -s -shared \
-Wl,-z,defs -Wl,--gc-sections -Wl,--undefined-version <LINK_FLAGS> -Wl,-soname,<TARGET_SONAME> \
-o <TARGET> <OBJECTS> <LINK_LIBRARIES>${runtimes} -lunwind")
    set(CMAKE_CXX_CREATE_SHARED_LIBRARY "${rule}")
    set(CMAKE_CUDA_CREATE_SHARED_LIBRARY "${rule}")
  endif()
endmacro()
