// RUN: retort-opt --split-input-file --verify-diagnostics %s

model.weight @norm : tensor<16xf32>
model.weight @kv_b : tensor<96x16xf32>
func.func @queries(%q: tensor<?x64xf32>, %kv: tensor<?x24xf32>) {
  // expected-error@+1 {{expected queries of 96 elements, found 64}}
  %y = model.mla %q, %kv norm @norm eps 1.0e-3 up @kv_b layer 0 heads 4 nope 16 rope 8 v 16 scale 0.1 inv_freq [1.0, 0.5, 0.2, 0.1] rope_scale 1.0 : (tensor<?x64xf32>, tensor<?x24xf32>) -> tensor<?x64xf32>
  return
}

// -----

model.weight @norm : tensor<16xf32>
model.weight @kv_b : tensor<96x16xf32>
func.func @latent(%q: tensor<?x64xf32>, %kv: tensor<?x8xf32>) {
  // expected-error@+1 {{expected a latent before the 8 elements of the shared key, found a row of 8}}
  %y = model.mla %q, %kv norm @norm eps 1.0e-3 up @kv_b layer 0 heads 4 nope 8 rope 8 v 16 scale 0.1 inv_freq [1.0, 0.5, 0.2, 0.1] rope_scale 1.0 : (tensor<?x64xf32>, tensor<?x8xf32>) -> tensor<?x64xf32>
  return
}

// -----

model.weight @norm : tensor<16xf32>
model.weight @kv_b : tensor<96x16xf32>
func.func @frequencies(%q: tensor<?x64xf32>, %kv: tensor<?x24xf32>) {
  // expected-error@+1 {{expected 4 frequencies, found 2}}
  %y = model.mla %q, %kv norm @norm eps 1.0e-3 up @kv_b layer 0 heads 4 nope 8 rope 8 v 16 scale 0.1 inv_freq [1.0, 0.5] rope_scale 1.0 : (tensor<?x64xf32>, tensor<?x24xf32>) -> tensor<?x64xf32>
  return
}

// -----

model.weight @norm : tensor<16xf32>
model.weight @kv_b : tensor<96x16xf32>
func.func @odd(%q: tensor<?x64xf32>, %kv: tensor<?x24xf32>) {
  // expected-error@+1 {{expected nope, an even rope and v above zero, found 9, 7 and 16}}
  %y = model.mla %q, %kv norm @norm eps 1.0e-3 up @kv_b layer 0 heads 4 nope 9 rope 7 v 16 scale 0.1 inv_freq [1.0, 0.5, 0.2, 0.1] rope_scale 1.0 : (tensor<?x64xf32>, tensor<?x24xf32>) -> tensor<?x64xf32>
  return
}

// -----

model.weight @norm : tensor<16xf32>
model.weight @kv_b : tensor<96x16xf32>
func.func @kv_b_shape(%q: tensor<?x64xf32>, %kv: tensor<?x24xf32>) {
  // expected-error@+1 {{expected weight @kv_b of shape [100, 16]}}
  %y = model.mla %q, %kv norm @norm eps 1.0e-3 up @kv_b layer 0 heads 4 nope 8 rope 8 v 17 scale 0.1 inv_freq [1.0, 0.5, 0.2, 0.1] rope_scale 1.0 : (tensor<?x64xf32>, tensor<?x24xf32>) -> tensor<?x68xf32>
  return
}

// -----

model.weight @g0 : tensor<16x32xf32>
model.weight @u0 : tensor<16x32xf32>
model.weight @d0 : tensor<32x16xf32>
model.weight @g1 : tensor<16x32xf32>
model.weight @u1 : tensor<16x32xf32>
model.weight @d1 : tensor<32x16xf32>
model.weight @g2 : tensor<16x32xf32>
model.weight @u2 : tensor<16x32xf32>
model.weight @d2 : tensor<32x16xf32>
model.weight @g3 : tensor<16x32xf32>
model.weight @u3 : tensor<16x32xf32>
model.weight @d3 : tensor<32x16xf32>
model.weight @router : tensor<4x32xf32>
model.weight @sg : tensor<20x32xf32>
model.weight @sd : tensor<32x20xf32>
func.func @lists(%x: tensor<?x32xf32>) {
  // expected-error@+1 {{expected as many gates, ups and downs, found 3, 4 and 4}}
  %y = model.moe %x router @router gates [@g0, @g1, @g2] ups [@u0, @u1, @u2, @u3] downs [@d0, @d1, @d2, @d3] layer 0 top_k 1 groups 2 top_groups 1 scale 1.0 : (tensor<?x32xf32>) -> tensor<?x32xf32>
  return
}

// -----

model.weight @g0 : tensor<16x32xf32>
model.weight @u0 : tensor<16x32xf32>
model.weight @d0 : tensor<32x16xf32>
model.weight @g1 : tensor<16x32xf32>
model.weight @u1 : tensor<16x32xf32>
model.weight @d1 : tensor<32x16xf32>
model.weight @g2 : tensor<16x32xf32>
model.weight @u2 : tensor<16x32xf32>
model.weight @d2 : tensor<32x16xf32>
model.weight @g3 : tensor<16x32xf32>
model.weight @u3 : tensor<16x32xf32>
model.weight @d3 : tensor<32x16xf32>
model.weight @router : tensor<4x32xf32>
model.weight @sg : tensor<20x32xf32>
model.weight @sd : tensor<32x20xf32>
func.func @groups(%x: tensor<?x32xf32>) {
  // expected-error@+1 {{expected groups of at least two that divide the 4 experts, found 3}}
  %y = model.moe %x router @router gates [@g0, @g1, @g2, @g3] ups [@u0, @u1, @u2, @u3] downs [@d0, @d1, @d2, @d3] layer 0 top_k 1 groups 3 top_groups 1 scale 1.0 : (tensor<?x32xf32>) -> tensor<?x32xf32>
  return
}

// -----

model.weight @g0 : tensor<16x32xf32>
model.weight @u0 : tensor<16x32xf32>
model.weight @d0 : tensor<32x16xf32>
model.weight @g1 : tensor<16x32xf32>
model.weight @u1 : tensor<16x32xf32>
model.weight @d1 : tensor<32x16xf32>
model.weight @g2 : tensor<16x32xf32>
model.weight @u2 : tensor<16x32xf32>
model.weight @d2 : tensor<32x16xf32>
model.weight @g3 : tensor<16x32xf32>
model.weight @u3 : tensor<16x32xf32>
model.weight @d3 : tensor<32x16xf32>
model.weight @router : tensor<4x32xf32>
model.weight @sg : tensor<20x32xf32>
model.weight @sd : tensor<32x20xf32>
func.func @top_k(%x: tensor<?x32xf32>) {
  // expected-error@+1 {{expected top_k from 1 to the 2 experts of the chosen groups, found 3}}
  %y = model.moe %x router @router gates [@g0, @g1, @g2, @g3] ups [@u0, @u1, @u2, @u3] downs [@d0, @d1, @d2, @d3] layer 0 top_k 3 groups 2 top_groups 1 scale 1.0 : (tensor<?x32xf32>) -> tensor<?x32xf32>
  return
}

// -----

model.weight @g0 : tensor<16x32xf32>
model.weight @u0 : tensor<16x32xf32>
model.weight @d0 : tensor<32x16xf32>
model.weight @g1 : tensor<16x32xf32>
model.weight @u1 : tensor<16x32xf32>
model.weight @d1 : tensor<32x16xf32>
model.weight @g2 : tensor<16x32xf32>
model.weight @u2 : tensor<16x32xf32>
model.weight @d2 : tensor<32x16xf32>
model.weight @g3 : tensor<16x32xf32>
model.weight @u3 : tensor<16x32xf32>
model.weight @d3 : tensor<32x16xf32>
model.weight @router : tensor<4x32xf32>
model.weight @sg : tensor<20x32xf32>
model.weight @sd : tensor<32x20xf32>
func.func @top_groups(%x: tensor<?x32xf32>) {
  // expected-error@+1 {{expected top_groups from 1 to 2, found 3}}
  %y = model.moe %x router @router gates [@g0, @g1, @g2, @g3] ups [@u0, @u1, @u2, @u3] downs [@d0, @d1, @d2, @d3] layer 0 top_k 1 groups 2 top_groups 3 scale 1.0 : (tensor<?x32xf32>) -> tensor<?x32xf32>
  return
}

// -----

model.weight @g0 : tensor<16x32xf32>
model.weight @u0 : tensor<16x32xf32>
model.weight @d0 : tensor<32x16xf32>
model.weight @g1 : tensor<16x32xf32>
model.weight @u1 : tensor<16x32xf32>
model.weight @d1 : tensor<32x16xf32>
model.weight @g2 : tensor<16x32xf32>
model.weight @u2 : tensor<16x32xf32>
model.weight @d2 : tensor<32x16xf32>
model.weight @g3 : tensor<16x32xf32>
model.weight @u3 : tensor<16x32xf32>
model.weight @d3 : tensor<32x16xf32>
model.weight @router : tensor<4x32xf32>
model.weight @sg : tensor<20x32xf32>
model.weight @sd : tensor<32x20xf32>
func.func @shape(%x: tensor<?x32xf32>) {
  // expected-error@+1 {{expected weight @g3 of shape [32, 16]}}
  %y = model.moe %x router @router gates [@g0, @g1, @g2, @g3] ups [@u0, @u1, @u2, @u3] downs [@d0, @d1, @d2, @g3] layer 0 top_k 1 groups 2 top_groups 1 scale 1.0 : (tensor<?x32xf32>) -> tensor<?x32xf32>
  return
}

// -----

model.weight @g0 : tensor<16x32xf32>
model.weight @u0 : tensor<16x32xf32>
model.weight @d0 : tensor<32x16xf32>
model.weight @g1 : tensor<16x32xf32>
model.weight @u1 : tensor<16x32xf32>
model.weight @d1 : tensor<32x16xf32>
model.weight @g2 : tensor<16x32xf32>
model.weight @u2 : tensor<16x32xf32>
model.weight @d2 : tensor<32x16xf32>
model.weight @g3 : tensor<16x32xf32>
model.weight @u3 : tensor<16x32xf32>
model.weight @d3 : tensor<32x16xf32>
model.weight @router : tensor<4x32xf32>
model.weight @sg : tensor<20x32xf32>
model.weight @sd : tensor<32x20xf32>
func.func @shared(%x: tensor<?x32xf32>) {
  // expected-error@+1 {{expected a shared width that is a multiple of an expert's 16, found 20}}
  %y = model.moe %x router @router gates [@g0, @g1, @g2, @g3] ups [@u0, @u1, @u2, @u3] downs [@d0, @d1, @d2, @d3] shared [@sg, @sg, @sd] layer 0 top_k 1 groups 2 top_groups 1 scale 1.0 : (tensor<?x32xf32>) -> tensor<?x32xf32>
  return
}

// -----

func.func @concat(%x: tensor<?x32xf32>) {
  // expected-error@+1 {{expected a result of 64 elements, found 65}}
  %y = model.concat %x, %x : (tensor<?x32xf32>, tensor<?x32xf32>) -> tensor<?x65xf32>
  return
}
