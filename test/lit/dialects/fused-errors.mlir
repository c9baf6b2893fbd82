// RUN: retort-opt --split-input-file --verify-diagnostics %s

!rows = tensor<?x128xf32>
!matrix = tensor<128x128xf32, #encoding.packed<bf16>>
!norm = tensor<128xf32>

func.func @one_part(%x: !rows, %w: !matrix) {
  // expected-error@+1 {{expected a linear behind an rms_norm or in front of a rope_cache, and a yield}}
  %y = kernel.fused %x, %w : (!rows, !matrix) -> !rows {
  ^bb0(%a: !rows, %b: !matrix):
    %c = kernel.linear %a, %b : (!rows, !matrix) -> !rows
    kernel.yield %c : !rows
  }
  return
}

// -----

!rows = tensor<?x128xf32>
!matrix = tensor<128x128xf32, #encoding.packed<bf16>>
!norm = tensor<128xf32>

func.func @norm_behind(%x: !rows, %w: !matrix, %n: !norm) {
  // expected-error@+1 {{expected a linear behind an rms_norm}}
  %y = kernel.fused %x, %w, %n : (!rows, !matrix, !norm) -> !rows {
  ^bb0(%a: !rows, %b: !matrix, %c: !norm):
    %d = kernel.linear %a, %b : (!rows, !matrix) -> !rows
    %e = kernel.rms_norm %d, %c eps 1.0e-6 : (!rows, !norm) -> !rows
    kernel.yield %e : !rows
  }
  return
}

// -----

!rows = tensor<?x128xf32>
!matrix = tensor<128x128xf32, #encoding.packed<bf16>>
!norm = tensor<128xf32>

func.func @norm_beside(%x: !rows, %w: !matrix, %n: !norm) {
  // expected-error@+1 {{expected rows of one form that the linear alone takes from the norm}}
  %y = kernel.fused %x, %w, %n : (!rows, !matrix, !norm) -> !rows {
  ^bb0(%a: !rows, %b: !matrix, %c: !norm):
    %d = kernel.rms_norm %a, %c eps 1.0e-6 : (!rows, !norm) -> !rows
    %e = kernel.linear %a, %b : (!rows, !matrix) -> !rows
    kernel.yield %e : !rows
  }
  return
}

// -----

!rows = tensor<?x128xf32>
!matrix = tensor<128x128xf32, #encoding.packed<bf16>>
!norm = tensor<128xf32>

func.func @other_results(%x: !rows, %w: !matrix, %n: !norm) {
  // expected-error@+1 {{expected it to return what its last launch does}}
  %y = kernel.fused %x, %w, %n : (!rows, !matrix, !norm) -> !rows {
  ^bb0(%a: !rows, %b: !matrix, %c: !norm):
    %d = kernel.rms_norm %a, %c eps 1.0e-6 : (!rows, !norm) -> !rows
    %e = kernel.linear %d, %b : (!rows, !matrix) -> !rows
    kernel.yield %a : !rows
  }
  return
}

// -----

!rows = tensor<?x128xf32>
!matrix = tensor<128x128xf32, #encoding.packed<bf16>>
!norm = tensor<128xf32>

func.func @other_types(%x: !rows, %w: !matrix, %n: !norm) {
  // expected-error@+1 {{expected a body that takes the types of its inputs}}
  %y = kernel.fused %x, %n, %w : (!rows, !norm, !matrix) -> !rows {
  ^bb0(%a: !rows, %b: !matrix, %c: !norm):
    %d = kernel.rms_norm %a, %c eps 1.0e-6 : (!rows, !norm) -> !rows
    %e = kernel.linear %d, %b : (!rows, !matrix) -> !rows
    kernel.yield %e : !rows
  }
  return
}

// -----

!rows = tensor<?x256xf32>
!matrix = tensor<256x128xf32, #encoding.packed<bf16>>
!keys = !kernel.cache<keys, 1 x 32>
!values = !kernel.cache<values, 1 x 32>

func.func @more_rows_than_heads(%x: !rows, %w: !matrix, %t: tensor<?x32xf32>, %k: !keys, %v: !values) {
  // expected-error@+1 {{expected a linear of 128 rows without residual and epilogue in front of the rope_cache}}
  %y:3 = kernel.fused %x, %w, %t, %k, %v : (!rows, !matrix, tensor<?x32xf32>, !keys, !values) -> (!rows, !keys, !values) {
  ^bb0(%a: !rows, %b: !matrix, %c: tensor<?x32xf32>, %d: !keys, %e: !values):
    %f = kernel.linear %a, %b : (!rows, !matrix) -> !rows
    %q, %nk, %nv = kernel.rope_cache %f, %c, %d, %e heads 2 : (!rows, tensor<?x32xf32>, !keys, !values) -> (!rows, !keys, !values)
    kernel.yield %q, %nk, %nv : !rows, !keys, !values
  }
  return
}
