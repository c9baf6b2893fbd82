# Libraries of the runtime. Static archives are preferred, so that retort-run
# and standalone models run on machines that lack the packages.

find_package(Threads REQUIRED)
find_package(nlohmann_json REQUIRED)

function(retort_static_library target header library)
  find_path(${target}_INCLUDE ${header} REQUIRED)
  find_library(${target}_LIBRARY NAMES lib${library}.a ${library} REQUIRED)
  add_library(${target} INTERFACE)
  target_include_directories(${target} SYSTEM INTERFACE ${${target}_INCLUDE})
  target_link_libraries(${target} INTERFACE ${${target}_LIBRARY})
endfunction()

retort_static_library(retort_pcre2 pcre2.h pcre2-8)
target_compile_definitions(retort_pcre2 INTERFACE PCRE2_CODE_UNIT_WIDTH=8 PCRE2_STATIC)
retort_static_library(retort_utf8proc utf8proc.h utf8proc)
target_compile_definitions(retort_utf8proc INTERFACE UTF8PROC_STATIC)
retort_static_library(retort_xxhash xxhash.h xxhash)
retort_static_library(retort_sodium sodium.h sodium)
retort_static_library(retort_zstd zstd.h zstd)
retort_static_library(retort_flatbuffers flatbuffers/flatbuffers.h flatbuffers)
find_path(RETORT_CLI11_INCLUDE CLI/CLI.hpp REQUIRED)
add_library(retort_cli11 INTERFACE)
target_include_directories(retort_cli11 SYSTEM INTERFACE ${RETORT_CLI11_INCLUDE})
find_program(RETORT_FLATC flatc REQUIRED)
