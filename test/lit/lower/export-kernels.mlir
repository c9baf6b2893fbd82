// RUN: retort-opt --export-kernels %s | FileCheck %s

// The body becomes internal; the C entry loads pointers and scalars for it.
// CHECK-LABEL: llvm.func @k(
// CHECK-SAME: %[[ARGS:.*]]: !llvm.ptr, %[[SCALARS:.*]]: !llvm.ptr, %[[SCRATCH:.*]]: !llvm.ptr, %[[TILE:.*]]: i64) {
// CHECK: %[[AT0:.*]] = llvm.getelementptr %[[ARGS]][0]
// CHECK: %[[X:.*]] = llvm.load %[[AT0]] invariant : !llvm.ptr -> !llvm.ptr
// CHECK: %[[AT1:.*]] = llvm.getelementptr %[[ARGS]][8]
// CHECK: %[[Y:.*]] = llvm.load %[[AT1]] invariant : !llvm.ptr -> !llvm.ptr
// CHECK: llvm.getelementptr %[[SCALARS]][0]
// CHECK: llvm.getelementptr %[[SCALARS]][8]
// CHECK: llvm.getelementptr %[[SCALARS]][16]
// CHECK: llvm.call @k.body(%[[X]], %[[Y]], %[[SCRATCH]], %{{.*}}, %{{.*}}, %{{.*}}, %[[TILE]])
// CHECK: llvm.func internal @k.body
llvm.func @k(%x: !llvm.ptr, %y: !llvm.ptr, %scratch: !llvm.ptr, %n: i64, %p: i64, %r: i64, %tile: i64) {
  llvm.return
}
