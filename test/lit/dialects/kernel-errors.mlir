// RUN: retort-opt --split-input-file --verify-diagnostics %s

// expected-error@+1 {{expected exactly one launch op in its body}}
kernel.entry @two tokens(one) {
^bb0(%x: tensor<?x128xf32>, %w: tensor<100xf32>):
  %y = kernel.rms_norm %x, %w eps 1.0e-6 : (tensor<?x128xf32>, tensor<100xf32>) -> tensor<?x128xf32>
  %z = kernel.rms_norm %x, %w eps 1.0e-6 : (tensor<?x128xf32>, tensor<100xf32>) -> tensor<?x128xf32>
}

// -----

// expected-error@+1 {{expected the launch to take the entry's arguments in order}}
kernel.entry @unused tokens(one) {
^bb0(%x: tensor<?x128xf32>, %w: tensor<100xf32>, %more: tensor<100xf32>):
  %y = kernel.rms_norm %x, %w eps 1.0e-6 : (tensor<?x128xf32>, tensor<100xf32>) -> tensor<?x128xf32>
}

// -----

func.func @embed(%t: tensor<?xi32>, %w: tensor<64x200xf32, #encoding.packed<bf16>>) {
  // expected-error@+1 {{expected a result stride of at least 200, found 128}}
  %y = kernel.embed %t, %w : (tensor<?xi32>, tensor<64x200xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  return
}

// -----

func.func @norm(%x: tensor<?x128xf32>, %w: tensor<200xf32>) {
  // expected-error@+1 {{expected 200 elements from a multiple of 32 on in a row of 128, found offset 0}}
  %y = kernel.rms_norm %x, %w eps 1.0e-6 : (tensor<?x128xf32>, tensor<200xf32>) -> tensor<?x256xf32>
  return
}

// -----

func.func @norm_offset(%x: tensor<?x256xf32>, %w: tensor<100xf32>) {
  // expected-error@+1 {{expected 100 elements from a multiple of 32 on in a row of 256, found offset 16}}
  %y = kernel.rms_norm %x, %w eps 1.0e-6 offset 16 : (tensor<?x256xf32>, tensor<100xf32>) -> tensor<?x128xf32>
  return
}

// -----

func.func @norm_stride(%x: tensor<?x256xf32>, %w: tensor<200xf32>) {
  // expected-error@+1 {{expected a result stride of at least 200, found 128}}
  %y = kernel.rms_norm %x, %w eps 1.0e-6 : (tensor<?x256xf32>, tensor<200xf32>) -> tensor<?x128xf32>
  return
}

// -----

// The padded columns count, not the logical ones.
func.func @stride(%x: tensor<?x128xf32>, %w: tensor<64x130xf32, #encoding.packed<int4, 128>>) {
  // expected-error@+1 {{expected a row stride of at least 256 for the weight's padded columns, found 128}}
  %y = kernel.linear %x, %w : (tensor<?x128xf32>, tensor<64x130xf32, #encoding.packed<int4, 128>>) -> tensor<?x128xf32>
  return
}

// -----

func.func @rows(%x: tensor<?x128xf32>, %w: tensor<40x100xf32, #encoding.packed<bf16>>) {
  // expected-error@+1 {{expected weight rows that are a positive multiple of 32, found 40}}
  %y = kernel.linear %x, %w : (tensor<?x128xf32>, tensor<40x100xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  return
}

// -----

func.func @swiglu_rows(%x: tensor<?x128xf32>, %w: tensor<96x100xf32, #encoding.packed<bf16>>) {
  // expected-error@+1 {{expected weight rows that are a positive multiple of 64, found 96}}
  %y = kernel.linear %x, %w epilogue swiglu : (tensor<?x128xf32>, tensor<96x100xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  return
}

// -----

func.func @bias(%x: tensor<?x128xf32>, %w: tensor<64x100xf32, #encoding.packed<bf16>>, %b: tensor<32xf32>) {
  // expected-error@+1 {{expected a bias of 64 elements, found 32}}
  %y = kernel.linear %x, %w bias %b : tensor<32xf32> : (tensor<?x128xf32>, tensor<64x100xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  return
}

// -----

func.func @residual(%x: tensor<?x128xf32>, %w: tensor<64x100xf32, #encoding.packed<bf16>>) {
  // expected-error@+1 {{expected no residual beside the swiglu epilogue}}
  %y = kernel.linear %x, %w residual %x : tensor<?x128xf32> epilogue swiglu : (tensor<?x128xf32>, tensor<64x100xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  return
}

// -----

func.func @table(%f: tensor<16xf64>) {
  // expected-error@+1 {{expected a result tensor<?x32xf32>, found 'tensor<?x64xf32>'}}
  %y = kernel.rope_table %f scale 1.0 : (tensor<16xf64>) -> tensor<?x64xf32>
  return
}

// -----

func.func @kinds(%q: tensor<?x128xf32>, %k: !kernel.cache<keys, 1 x 32>) {
  // expected-error@+1 {{expected a cache of keys, then one of values}}
  %y = kernel.attention %q, %k, %k heads 2 scale 0.25 : (tensor<?x128xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<keys, 1 x 32>) -> tensor<?x128xf32>
  return
}

// -----

func.func @heads(%q: tensor<?x128xf32>, %k: !kernel.cache<keys, 2 x 32>, %v: !kernel.cache<values, 2 x 32>) {
  // expected-error@+1 {{expected query heads that are a multiple of the 2 key/value heads, found 3}}
  %y = kernel.attention %q, %k, %v heads 3 scale 0.25 : (tensor<?x128xf32>, !kernel.cache<keys, 2 x 32>, !kernel.cache<values, 2 x 32>) -> tensor<?x128xf32>
  return
}

// -----

func.func @width(%q: tensor<?x128xf32>, %k: !kernel.cache<keys, 1 x 64>, %v: !kernel.cache<values, 1 x 64>) {
  // expected-error@+1 {{expected strides of at least 256, found 128 and 128}}
  %y = kernel.attention %q, %k, %v heads 4 scale 0.25 : (tensor<?x128xf32>, !kernel.cache<keys, 1 x 64>, !kernel.cache<values, 1 x 64>) -> tensor<?x128xf32>
  return
}

// -----

// expected-error@+1 {{expected f32, f16, bf16, fp8, or int2, int3, int4, int5, int6, int8 or nf4 with a group size of 32, 64 or 128, and zero points for int2 to int6 alone, found int8<48>}}
kernel.weight @w : tensor<64x100xf32, #encoding.packed<int8, 48>>

// -----

// expected-error@+1 {{zero points for int2 to int6 alone, found nf4<32, zero_points>}}
kernel.weight @w : tensor<64x100xf32, #encoding.packed<nf4, 32, zero_points>>

// -----

// expected-error@+1 {{expected row runs [tensor, src, count, dst] or [tensor, src, count, dst, strip_stride, col_shift, transposed], found ["q", 0, 64]}}
kernel.weight @w : tensor<64xf32> rows [["q", 0, 64]]

// -----

// expected-error@+1 {{expected row runs [tensor, src, count, dst] or [tensor, src, count, dst, strip_stride, col_shift, transposed], found [1, 0, 64, 0]}}
kernel.weight @w : tensor<64xf32> rows [[1, 0, 64, 0]]

// -----

// expected-error@+1 {{expected a strip_stride that is a positive multiple of 32, found 48}}
kernel.weight @w : tensor<64xf32> rows [["q", 0, 64, 0, 48, 0, 0]]

// -----

// expected-error@+1 {{expected transposed to be 0 or 1, found 2}}
kernel.weight @w : tensor<64x64xf32, #encoding.packed<bf16>> rows [["q", 0, 64, 0, 32, 0, 2]] cols [[0, 64, 0]]

// -----

// expected-error@+1 {{expected a vector's row run to have no col_shift and not to be transposed, found ["q", 0, 64, 0, 32, 4, 0]}}
kernel.weight @w : tensor<64xf32> rows [["q", 0, 64, 0, 32, 4, 0]]

// -----

// expected-error@+1 {{expected column runs [src, count, dst], found [0, 64]}}
kernel.weight @w : tensor<64x64xf32, #encoding.packed<bf16>> rows [["q", 0, 64, 0]] cols [[0, 64]]

// -----

// expected-error@+1 {{expected a packed matrix or a vector of static shape, found 'tensor<64x64xf32>'}}
kernel.weight @w : tensor<64x64xf32>
