// RUN: retort-opt --plan-program --split-input-file --verify-diagnostics %s

// A module that fuse-launches has not seen.
// expected-error @+1 {{expected functions 'body' and 'head', which fuse-launches makes}}
module {
}

// -----

kernel.weight @embed : tensor<128x128xf32, #encoding.packed<bf16>> rows [["e", 0, 128, 0]] cols [[0, 128, 0]]
func.func @body(%tokens: tensor<?xi32>) -> tensor<?x128xf32> {
  %w = kernel.load_weight @embed : tensor<128x128xf32, #encoding.packed<bf16>>
  %x = kernel.embed %tokens, %w : (tensor<?xi32>, tensor<128x128xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  return %x : tensor<?x128xf32>
}
func.func @head(%x: tensor<?x128xf32>) -> tensor<?x128xf32> {
  %w = kernel.load_weight @embed : tensor<128x128xf32, #encoding.packed<bf16>>
  %l = kernel.linear %x, %w : (tensor<?x128xf32>, tensor<128x128xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  return %l : tensor<?x128xf32>
}
// expected-error@+1 {{expected 'draft_body' and 'draft_head' together}}
func.func @draft_body(%tokens: tensor<?xi32>, %x: tensor<?x128xf32>) -> tensor<?x128xf32> {
  %w = kernel.load_weight @embed : tensor<128x128xf32, #encoding.packed<bf16>>
  %y = kernel.embed %tokens, %w : (tensor<?xi32>, tensor<128x128xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  return %y : tensor<?x128xf32>
}
