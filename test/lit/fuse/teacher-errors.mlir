// RUN: retort-opt --split-input-file --verify-diagnostics --quantize-weights="weights=keep" --fuse-launches %s

model.weight @g : tensor<192x128xbf16>
model.weight @embed : tensor<512x128xbf16>
model.weight @norm : tensor<128xbf16>
model.weight @kv_a : tensor<80x128xbf16>
model.weight @kv_norm : tensor<64xbf16>
model.weight @kv_b : tensor<256x64xbf16>
model.weight @o : tensor<128x128xbf16>
model.weight @final : tensor<128xbf16>
func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x512xf32> {
  %x = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x128xf32>
  %n = model.rms_norm %x, @norm eps 1.0e-3 : tensor<?x128xf32>
  %g = model.linear %n, @g : (tensor<?x128xf32>) -> tensor<?x192xf32>
  %q = model.swiglu %g, %g : tensor<?x192xf32>
  %kv = model.linear %n, @kv_a : (tensor<?x128xf32>) -> tensor<?x80xf32>
  // expected-error@+1 {{expected queries and a latent that are linear}}
  %a = model.mla %q, %kv norm @kv_norm eps 1.0e-3 up @kv_b layer 0 heads 4 nope 32 rope 16 v 32 scale 0.125
      inv_freq [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125] rope_scale 1.0 interleaved
      : (tensor<?x192xf32>, tensor<?x80xf32>) -> tensor<?x128xf32>
  %o = model.linear %a, @o : (tensor<?x128xf32>) -> tensor<?x128xf32>
  %z = model.add %x, %o : tensor<?x128xf32>
  %last = model.rms_norm %z, @final eps 1.0e-3 : tensor<?x128xf32>
  %logits = model.linear %last, @embed : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %logits : tensor<?x512xf32>
}

// -----

model.weight @q : tensor<192x128xbf16>
model.weight @embed : tensor<512x128xbf16>
model.weight @norm : tensor<128xbf16>
model.weight @kv_a : tensor<80x128xbf16>
model.weight @kv_norm : tensor<64xbf16>
model.weight @kv_b : tensor<256x64xbf16>
model.weight @o : tensor<128x128xbf16>
model.weight @final : tensor<128xbf16>
func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x512xf32> {
  %x = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x128xf32>
  %n = model.rms_norm %x, @norm eps 1.0e-3 : tensor<?x128xf32>
  %q = model.linear %n, @q : (tensor<?x128xf32>) -> tensor<?x192xf32>
  %kv0 = model.linear %n, @kv_a : (tensor<?x128xf32>) -> tensor<?x80xf32>
  %kv = model.swiglu %kv0, %kv0 : tensor<?x80xf32>
  // expected-error@+1 {{expected queries and a latent that are linear}}
  %a = model.mla %q, %kv norm @kv_norm eps 1.0e-3 up @kv_b layer 0 heads 4 nope 32 rope 16 v 32 scale 0.125
      inv_freq [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125] rope_scale 1.0 interleaved
      : (tensor<?x192xf32>, tensor<?x80xf32>) -> tensor<?x128xf32>
  %o = model.linear %a, @o : (tensor<?x128xf32>) -> tensor<?x128xf32>
  %z = model.add %x, %o : tensor<?x128xf32>
  %last = model.rms_norm %z, @final eps 1.0e-3 : tensor<?x128xf32>
  %logits = model.linear %last, @embed : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %logits : tensor<?x512xf32>
}

// -----

model.weight @q : tensor<192x128xbf16>
model.weight @embed : tensor<512x128xbf16>
model.weight @norm : tensor<128xbf16>
model.weight @kv_a : tensor<80x128xbf16>
model.weight @kv_norm : tensor<64xbf16>
model.weight @kv_b : tensor<256x64xbf16>
model.weight @o : tensor<128x128xbf16>
model.weight @final : tensor<128xbf16>
func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x512xf32> {
  %x = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x128xf32>
  %n = model.rms_norm %x, @norm eps 1.0e-3 : tensor<?x128xf32>
  %q = model.linear %x, @q : (tensor<?x128xf32>) -> tensor<?x192xf32>
  %kv = model.linear %n, @kv_a : (tensor<?x128xf32>) -> tensor<?x80xf32>
  // expected-error@+1 {{expected queries that are linear in the latent}}
  %a = model.mla %q, %kv norm @kv_norm eps 1.0e-3 up @kv_b layer 0 heads 4 nope 32 rope 16 v 32 scale 0.125
      inv_freq [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125] rope_scale 1.0 interleaved
      : (tensor<?x192xf32>, tensor<?x80xf32>) -> tensor<?x128xf32>
  %o = model.linear %a, @o : (tensor<?x128xf32>) -> tensor<?x128xf32>
  %z = model.add %x, %o : tensor<?x128xf32>
  %last = model.rms_norm %z, @final eps 1.0e-3 : tensor<?x128xf32>
  %logits = model.linear %last, @embed : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %logits : tensor<?x512xf32>
}

// -----

model.weight @q_bias : tensor<192xbf16>
model.weight @embed : tensor<512x128xbf16>
model.weight @norm : tensor<128xbf16>
model.weight @kv_a : tensor<80x128xbf16>
model.weight @kv_norm : tensor<64xbf16>
model.weight @kv_b : tensor<256x64xbf16>
model.weight @o : tensor<128x128xbf16>
model.weight @final : tensor<128xbf16>
model.weight @q_a : tensor<40x128xbf16>
model.weight @q_norm : tensor<40xbf16>
model.weight @q_b : tensor<192x40xbf16>
func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x512xf32> {
  %x = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x128xf32>
  %n = model.rms_norm %x, @norm eps 1.0e-3 : tensor<?x128xf32>
  %qa = model.linear %n, @q_a : (tensor<?x128xf32>) -> tensor<?x40xf32>
  %qn = model.rms_norm %qa, @q_norm eps 1.0e-3 : tensor<?x40xf32>
  %q = model.linear %qn, @q_b bias @q_bias : (tensor<?x40xf32>) -> tensor<?x192xf32>
  %kv = model.linear %n, @kv_a : (tensor<?x128xf32>) -> tensor<?x80xf32>
  // expected-error@+1 {{expected queries without a bias behind their norm}}
  %a = model.mla %q, %kv norm @kv_norm eps 1.0e-3 up @kv_b layer 0 heads 4 nope 32 rope 16 v 32 scale 0.125
      inv_freq [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125] rope_scale 1.0 interleaved
      : (tensor<?x192xf32>, tensor<?x80xf32>) -> tensor<?x128xf32>
  %o = model.linear %a, @o : (tensor<?x128xf32>) -> tensor<?x128xf32>
  %z = model.add %x, %o : tensor<?x128xf32>
  %last = model.rms_norm %z, @final eps 1.0e-3 : tensor<?x128xf32>
  %logits = model.linear %last, @embed : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %logits : tensor<?x512xf32>
}

// -----

model.weight @embed : tensor<512x128xbf16>
model.weight @norm : tensor<128xbf16>
model.weight @router : tensor<4x128xf32>
model.weight @bias : tensor<4xf32>
model.weight @gate.0 : tensor<64x128xbf16>
model.weight @up.0 : tensor<64x128xbf16>
model.weight @down.0 : tensor<128x64xbf16>
model.weight @gate.1 : tensor<64x128xbf16>
model.weight @up.1 : tensor<64x128xbf16>
model.weight @down.1 : tensor<128x64xbf16>
model.weight @gate.2 : tensor<64x128xbf16>
model.weight @up.2 : tensor<64x128xbf16>
model.weight @down.2 : tensor<128x64xf32, #encoding.packed<int8, 32>>
model.weight @gate.3 : tensor<64x128xbf16>
model.weight @up.3 : tensor<64x128xbf16>
model.weight @down.3 : tensor<128x64xbf16>
model.weight @final : tensor<128xbf16>
func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x512xf32> {
  %x = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x128xf32>
  %n = model.rms_norm %x, @norm eps 1.0e-3 : tensor<?x128xf32>
  // expected-error@+1 {{expected weights of one encoding in a launch}}
  %e = model.moe %n router @router bias @bias gates [@gate.0, @gate.1, @gate.2, @gate.3] ups [@up.0, @up.1, @up.2, @up.3]
      downs [@down.0, @down.1, @down.2, @down.3] layer 0 top_k 2 groups 2 top_groups 1 scale 1.0
      : (tensor<?x128xf32>) -> tensor<?x128xf32>
  %z = model.add %x, %e : tensor<?x128xf32>
  %last = model.rms_norm %z, @final eps 1.0e-3 : tensor<?x128xf32>
  %logits = model.linear %last, @embed : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %logits : tensor<?x512xf32>
}

// -----

model.weight @embed : tensor<512x128xbf16>
model.weight @norm : tensor<128xbf16>
model.weight @router : tensor<4x128xf32>
model.weight @bias : tensor<4xf32>
model.weight @gate.0 : tensor<64x128xbf16>
model.weight @up.0 : tensor<64x128xbf16>
model.weight @down.0 : tensor<128x64xbf16>
model.weight @gate.1 : tensor<64x128xbf16>
model.weight @up.1 : tensor<64x128xbf16>
model.weight @down.1 : tensor<128x64xbf16>
model.weight @gate.2 : tensor<64x128xbf16>
model.weight @up.2 : tensor<64x128xbf16>
model.weight @down.2 : tensor<128x64xbf16>
model.weight @gate.3 : tensor<64x128xbf16>
model.weight @up.3 : tensor<64x128xbf16>
model.weight @down.3 : tensor<128x64xbf16>
model.weight @final : tensor<128xbf16>
func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x512xf32> {
  %x = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x128xf32>
  %n = model.rms_norm %x, @norm eps 1.0e-3 : tensor<?x128xf32>
  %e = model.moe %n router @router bias @bias gates [@gate.0, @gate.1, @gate.2, @gate.3] ups [@up.0, @up.1, @up.2, @up.3]
      downs [@down.0, @down.1, @down.2, @down.3] layer 0 top_k 2 groups 2 top_groups 1 scale 1.0
      : (tensor<?x128xf32>) -> tensor<?x128xf32>
  // expected-error@+1 {{expected an operand that one launch can compute, found the result of model.moe}}
  %e2 = model.rms_norm %e, @norm eps 1.0e-3 : tensor<?x128xf32>
  %y = model.add %x, %e : tensor<?x128xf32>
  %z = model.add %y, %e2 : tensor<?x128xf32>
  %last = model.rms_norm %z, @final eps 1.0e-3 : tensor<?x128xf32>
  %logits = model.linear %last, @embed : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %logits : tensor<?x512xf32>
}

// -----

model.weight @embed : tensor<512x128xbf16>
model.weight @norm : tensor<128xbf16>
model.weight @wide : tensor<256xbf16>
model.weight @half : tensor<128x256xbf16>
func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x512xf32> {
  %x = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x128xf32>
  %n = model.rms_norm %x, @norm eps 1.0e-3 : tensor<?x128xf32>
  %c = model.concat %n, %n : (tensor<?x128xf32>, tensor<?x128xf32>) -> tensor<?x256xf32>
  // expected-error@+1 {{expected an operand that one launch can compute, found the result of model.concat}}
  %m = model.rms_norm %c, @wide eps 1.0e-3 : tensor<?x256xf32>
  %l = model.linear %m, @half : (tensor<?x256xf32>) -> tensor<?x128xf32>
  %z = model.add %x, %l : tensor<?x128xf32>
  %last = model.rms_norm %z, @norm eps 1.0e-3 : tensor<?x128xf32>
  %logits = model.linear %last, @embed : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %logits : tensor<?x512xf32>
}
