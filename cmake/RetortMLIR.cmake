# LLVM, MLIR and LLD 22 as Debian packages them, linked as shared libraries.

find_package(MLIR 22.1 REQUIRED CONFIG HINTS /usr/lib/llvm-22/lib/cmake/mlir)
find_package(LLD REQUIRED CONFIG HINTS /usr/lib/llvm-22/lib/cmake/lld)
list(APPEND CMAKE_MODULE_PATH "${MLIR_CMAKE_DIR}" "${LLVM_CMAKE_DIR}")
include(TableGen)
include(AddLLVM)
include(AddMLIR)

add_library(retort_mlir INTERFACE)
target_include_directories(retort_mlir SYSTEM INTERFACE ${LLVM_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS})
target_compile_definitions(retort_mlir INTERFACE ${LLVM_DEFINITIONS_LIST})
# Debian's LLVM is built without RTTI; classes derived from its types must be too.
target_compile_options(retort_mlir INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>)
target_compile_options(retort_mlir INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-include ${CMAKE_SOURCE_DIR}/cmake/LLVMStatistics.h>")
target_link_libraries(retort_mlir INTERFACE MLIR LLVM)
# mlir_tablegen looks for upstream's .td files in the directory's include path.
include_directories(SYSTEM ${LLVM_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS})
include(RetortDialect)
