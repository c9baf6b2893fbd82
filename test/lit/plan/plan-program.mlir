// RUN: retort-opt --plan-program %s | FileCheck %s

kernel.weight @embed : tensor<128x128xf32, #encoding.packed<bf16>> rows [["e", 0, 128, 0]] cols [[0, 128, 0]]
kernel.weight @norm : tensor<128xf32> rows [["n", 0, 128, 0]]

// The body's result is the head's input, and nothing else is put there: a head
// runs several times over its rows, whatever the widths.
// CHECK: program.buffer @hidden activation per_token 512
// CHECK: program.buffer @logits activation fixed 16384
// CHECK: program.phase @body_one body tokens(1, 1)
// CHECK-NEXT: program.launch @{{.*}} [@tokens, @embed, @hidden]
// CHECK: program.phase @head_one head tokens(1, 1)
// CHECK-NEXT: program.launch @fused_0_one [@hidden, @norm, @embed, @logits]
// CHECK: program.phase @head_few head tokens(2, 8)
// CHECK-NEXT: program.launch @{{.*}} [@hidden, @norm, @[[NORMED:[a-z0-9_]+]]]
// CHECK-NEXT: program.launch @{{.*}} [@[[NORMED]], @embed, @logits]
func.func @body(%tokens: tensor<?xi32>) -> tensor<?x128xf32> {
  %w = kernel.load_weight @embed : tensor<128x128xf32, #encoding.packed<bf16>>
  %x = kernel.embed %tokens, %w : (tensor<?xi32>, tensor<128x128xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  return %x : tensor<?x128xf32>
}
func.func @head(%x: tensor<?x128xf32>) -> tensor<?x128xf32> {
  %n = kernel.load_weight @norm : tensor<128xf32>
  %y = kernel.rms_norm %x, %n eps 1.0e-3 from_first_row : (tensor<?x128xf32>, tensor<128xf32>) -> tensor<?x128xf32>
  %w = kernel.load_weight @embed : tensor<128x128xf32, #encoding.packed<bf16>>
  %l = kernel.linear %y, %w : (tensor<?x128xf32>, tensor<128x128xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  return %l : tensor<?x128xf32>
}
