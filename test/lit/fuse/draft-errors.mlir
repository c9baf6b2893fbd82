// RUN: retort-opt --split-input-file --verify-diagnostics --quantize-weights="weights=keep" --fuse-launches %s

model.weight @embed : tensor<512x128xbf16>
model.weight @norm : tensor<128xbf16>
func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x512xf32> {
  %x = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x128xf32>
  %h = model.rms_norm %x, @norm eps 1.0e-5 : tensor<?x128xf32>
  %l = model.linear %h, @embed : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %l : tensor<?x512xf32>
}
// expected-error@+1 {{expected token ids and what forward's output matrix is given}}
func.func @draft(%tokens: tensor<?xi32>) -> tensor<?x512xf32> {
  %x = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x128xf32>
  %h = model.rms_norm %x, @norm eps 1.0e-5 : tensor<?x128xf32>
  %l = model.linear %h, @embed : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %l : tensor<?x512xf32>
}

// -----

model.weight @embed : tensor<512x128xbf16>
model.weight @norm : tensor<128xbf16>
func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x512xf32> {
  %x = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x128xf32>
  %h = model.rms_norm %x, @norm eps 1.0e-5 : tensor<?x128xf32>
  %l = model.linear %h, @embed : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %l : tensor<?x512xf32>
}
func.func @draft(%tokens: tensor<?xi32>, %hidden: tensor<?x128xf32>) -> tensor<?x512xf32> {
  %l = model.linear %hidden, @embed : (tensor<?x128xf32>) -> tensor<?x512xf32>
  // expected-error@+1 {{expected logits that are linear in a final norm}}
  return %l : tensor<?x512xf32>
}
