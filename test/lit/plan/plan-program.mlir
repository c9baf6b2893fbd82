// RUN: retort-opt --plan-program %s | FileCheck %s

// The head runs several times over the hidden states of one chunk, so that its
// logits may not be written over them, even where both have the same width.
// CHECK-DAG: program.buffer @hidden activation
// CHECK-DAG: program.buffer @logits activation fixed
// CHECK-LABEL: program.phase @head_one
// CHECK-NEXT: program.launch @rms_norm_0_one [@hidden, @norm, @[[NORMED:.*]]] tiles
// CHECK-NEXT: program.launch @linear_0_one [@[[NORMED]], @out, @logits] tiles
kernel.weight @embed : tensor<128x128xf32, #encoding.packed<bf16>> rows [["e", 0, 128, 0]] cols [[0, 128, 0]]
kernel.weight @norm : tensor<128xf32> rows [["n", 0, 128, 0]]
kernel.weight @out : tensor<128x128xf32, #encoding.packed<bf16>> rows [["o", 0, 128, 0]] cols [[0, 128, 0]]
func.func @body(%tokens: tensor<?xi32>) -> tensor<?x128xf32> {
  %w = kernel.load_weight @embed : tensor<128x128xf32, #encoding.packed<bf16>>
  %x = kernel.embed %tokens, %w : (tensor<?xi32>, tensor<128x128xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  return %x : tensor<?x128xf32>
}
func.func @head(%x: tensor<?x128xf32>) -> tensor<?x128xf32> {
  %n = kernel.load_weight @norm : tensor<128xf32>
  %w = kernel.load_weight @out : tensor<128x128xf32, #encoding.packed<bf16>>
  %y = kernel.rms_norm %x, %n eps 1.0e-6 from_first_row : (tensor<?x128xf32>, tensor<128xf32>) -> tensor<?x128xf32>
  %l = kernel.linear %y, %w : (tensor<?x128xf32>, tensor<128x128xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  return %l : tensor<?x128xf32>
}
