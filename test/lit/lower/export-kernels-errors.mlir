// RUN: retort-opt --export-kernels --split-input-file --verify-diagnostics %s

// expected-error@+1 {{expected pointers and then 4 i64 parameters, found '!llvm.func<void (ptr, i64, i64)>'}}
llvm.func @short(%x: !llvm.ptr, %n: i64, %p: i64) {
  llvm.return
}

// -----

// expected-error@+1 {{expected pointers and then 4 i64 parameters}}
llvm.func @float(%x: f32, %n: i64, %p: i64, %r: i64, %tile: i64) {
  llvm.return
}
