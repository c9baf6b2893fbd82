# retort_dialect(NAME [ATTRS] [TYPES] [OPS] [ENUMS] LIBS ...): the generated
# files, library `retort_dialect_<name>` and documentation of dialects/<NAME>.

function(retort_dialect name)
  cmake_parse_arguments(ARG "ATTRS;TYPES;OPS;ENUMS" "" "SOURCES;LIBS" ${ARGN})
  string(TOLOWER ${name} lower)
  set(LLVM_TARGET_DEFINITIONS ${name}.td)
  set(gen -I${CMAKE_SOURCE_DIR} -dialect=${lower})
  mlir_tablegen(${name}Dialect.h.inc -gen-dialect-decls ${gen})
  mlir_tablegen(${name}Dialect.cpp.inc -gen-dialect-defs ${gen})
  if(ARG_ATTRS)
    mlir_tablegen(${name}Attrs.h.inc -gen-attrdef-decls -I${CMAKE_SOURCE_DIR} -attrdefs-dialect=${lower})
    mlir_tablegen(${name}Attrs.cpp.inc -gen-attrdef-defs -I${CMAKE_SOURCE_DIR} -attrdefs-dialect=${lower})
  endif()
  if(ARG_TYPES)
    mlir_tablegen(${name}Types.h.inc -gen-typedef-decls -I${CMAKE_SOURCE_DIR} -typedefs-dialect=${lower})
    mlir_tablegen(${name}Types.cpp.inc -gen-typedef-defs -I${CMAKE_SOURCE_DIR} -typedefs-dialect=${lower})
  endif()
  if(ARG_ENUMS)
    mlir_tablegen(${name}Enums.h.inc -gen-enum-decls -I${CMAKE_SOURCE_DIR})
    mlir_tablegen(${name}Enums.cpp.inc -gen-enum-defs -I${CMAKE_SOURCE_DIR})
  endif()
  if(ARG_OPS)
    mlir_tablegen(${name}Ops.h.inc -gen-op-decls -I${CMAKE_SOURCE_DIR})
    mlir_tablegen(${name}Ops.cpp.inc -gen-op-defs -I${CMAKE_SOURCE_DIR})
  endif()
  add_public_tablegen_target(retort_${lower}_gen)
  add_library(retort_dialect_${lower} STATIC ${name}.cpp ${ARG_SOURCES})
  add_dependencies(retort_dialect_${lower} retort_${lower}_gen)
  target_link_libraries(retort_dialect_${lower} PUBLIC retort_options retort_mlir ${ARG_LIBS})

  # The generator for dialects insists on the class of ops.
  set(doc_kind -gen-dialect-doc)
  if(NOT ARG_OPS)
    set(doc_kind -gen-attrdef-doc)
  endif()
  set(doc ${CMAKE_BINARY_DIR}/docs/dialect-${lower}.md)
  add_custom_command(OUTPUT ${doc}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/docs
    COMMAND ${MLIR_TABLEGEN_EXE} ${doc_kind} $<IF:$<BOOL:${ARG_OPS}>,-dialect=${lower},-attrdefs-dialect=${lower}> -I${CMAKE_SOURCE_DIR} -I${MLIR_INCLUDE_DIRS}
            ${CMAKE_CURRENT_SOURCE_DIR}/${name}.td -o ${doc}
    DEPENDS ${name}.td)
  add_custom_target(retort_${lower}_docs DEPENDS ${doc})
  set_property(GLOBAL APPEND PROPERTY RETORT_DOC_TARGETS retort_${lower}_docs)
endfunction()

# retort_passes(NAME): the generated declarations and documentation of the
# Passes.td in this folder, as target `retort_<name>_passes_gen`.
function(retort_passes name)
  set(LLVM_TARGET_DEFINITIONS Passes.td)
  mlir_tablegen(Passes.h.inc -gen-pass-decls -name ${name} -I${CMAKE_SOURCE_DIR})
  add_public_tablegen_target(retort_${name}_passes_gen)
  string(TOLOWER ${name} lower)
  set(doc ${CMAKE_BINARY_DIR}/docs/passes-${lower}.md)
  add_custom_command(OUTPUT ${doc}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/docs
    COMMAND ${MLIR_TABLEGEN_EXE} -gen-pass-doc -I${CMAKE_SOURCE_DIR} -I${MLIR_INCLUDE_DIRS} ${CMAKE_CURRENT_SOURCE_DIR}/Passes.td -o ${doc}
    DEPENDS Passes.td)
  add_custom_target(retort_${lower}_passes_docs DEPENDS ${doc})
  set_property(GLOBAL APPEND PROPERTY RETORT_DOC_TARGETS retort_${lower}_passes_docs)
endfunction()
