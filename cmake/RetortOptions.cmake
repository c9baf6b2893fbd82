# Compile and link options that every target of the project shares, carried by
# the interface library `retort_options`.

include(CheckLinkerFlag)

add_library(retort_options INTERFACE)
target_include_directories(retort_options INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
target_compile_options(retort_options INTERFACE
  -Wall -Wextra -Wno-unused-parameter $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor>
  -ffunction-sections -fdata-sections)
target_link_options(retort_options INTERFACE -Wl,--gc-sections)

find_program(RETORT_CCACHE ccache)
if(RETORT_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${RETORT_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${RETORT_CCACHE})
endif()

# Debian installs the versioned name alone; clang looks for its own version.
foreach(flag -fuse-ld=lld -fuse-ld=lld-22)
  check_linker_flag(CXX ${flag} RETORT_LINKER_${flag})
  if(RETORT_LINKER_${flag})
    add_link_options(${flag})
    break()
  endif()
endforeach()

if(RETORT_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()
if(RETORT_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES Clang)
    message(FATAL_ERROR "RETORT_FUZZ needs clang, found ${CMAKE_CXX_COMPILER_ID}")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
