///
/// \file
/// The pass from launches to the artifact's program.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_COMPILER_PLAN_PASSES_H
#define RETORT_COMPILER_PLAN_PASSES_H

#include "mlir/Pass/Pass.h"

namespace retort {
#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "compiler/plan/Passes.h.inc"
} // namespace retort

#endif // RETORT_COMPILER_PLAN_PASSES_H
