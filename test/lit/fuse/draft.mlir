// The draft layer becomes functions of its own, behind the model's.

// RUN: retort-opt --quantize-weights="weights=keep" --fuse-launches %s | FileCheck %s
// RUN: retort-opt --quantize-weights="weights=keep" --fuse-launches %s | FileCheck %s --check-prefix=WEIGHTS
// RUN: retort-opt --quantize-weights="weights=keep" --fuse-launches --plan-program %s | FileCheck %s --check-prefix=PLAN

model.weight @embed : tensor<512x128xbf16>
model.weight @norm : tensor<128xbf16>
model.weight @enorm : tensor<128xbf16>
model.weight @hnorm : tensor<128xbf16>
model.weight @eh : tensor<128x256xbf16>
model.weight @gate : tensor<64x128xbf16>
model.weight @up : tensor<64x128xbf16>
model.weight @down : tensor<128x64xbf16>
model.weight @mlp_norm : tensor<128xbf16>
model.weight @shared_norm : tensor<128xbf16>
model.weight @lm_head : tensor<512x128xbf16>

// CHECK-LABEL: func.func @body
func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x512xf32> {
  %x = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x128xf32>
  %n = model.rms_norm %x, @mlp_norm eps 1.0e-3 : tensor<?x128xf32>
  %g = model.linear %n, @gate : (tensor<?x128xf32>) -> tensor<?x64xf32>
  %u = model.linear %n, @up : (tensor<?x128xf32>) -> tensor<?x64xf32>
  %a = model.swiglu %g, %u : tensor<?x64xf32>
  %d = model.linear %a, @down : (tensor<?x64xf32>) -> tensor<?x128xf32>
  %y = model.add %x, %d : tensor<?x128xf32>
  %h = model.rms_norm %y, @norm eps 1.0e-5 : tensor<?x128xf32>
  %l = model.linear %h, @lm_head : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %l : tensor<?x512xf32>
}

// The runtime keeps the hidden states in front of the final norm, whose launch
// comes first. Each half of @eh meets one of the rows; the sum is the residual
// of what follows, and a norm's input.
// CHECK-LABEL: func.func @draft_body
// CHECK-SAME: (%[[TOKENS:.*]]: tensor<?xi32>, %[[HIDDEN:.*]]: tensor<?x128xf32>)
// CHECK: %[[FINAL:.*]] = kernel.rms_norm %[[HIDDEN]], %{{.*}} eps 1.000000e-05
// CHECK: %[[EMBED:.*]] = kernel.embed %[[TOKENS]]
// CHECK: %[[NEXT:.*]] = kernel.rms_norm %[[EMBED]]
// CHECK: %[[NOW:.*]] = kernel.rms_norm %[[FINAL]]
// CHECK: %[[LEFT:.*]] = kernel.linear %[[NEXT]], %{{.*}} {kernel.label = "linear concat lhs", kernel.layer = 1 : i64}
// CHECK: %[[SUM:.*]] = kernel.linear %[[NOW]], %{{.*}} residual %[[LEFT]]
// CHECK: %[[NORMED:.*]] = kernel.rms_norm %[[SUM]]
// CHECK: %[[ACT:.*]] = kernel.linear %[[NORMED]], %{{.*}} epilogue swiglu
// CHECK: kernel.linear %[[ACT]], %{{.*}} residual %[[SUM]]
// CHECK-LABEL: func.func @head
// CHECK-LABEL: func.func @draft_head
// CHECK: kernel.rms_norm %{{.*}} from_first_row
// CHECK: kernel.linear
// WEIGHTS-DAG: kernel.weight @packed.eh.lhs : tensor<128x128xf32, #encoding.packed<bf16>> rows {{\[\[}}"eh", 0, 128, 0]]
// WEIGHTS-DAG: kernel.weight @packed.eh.rhs : tensor<128x128xf32, #encoding.packed<bf16>> rows {{\[\[}}"eh", 0, 128, 0, 32, 128, 0]]

// PLAN: program.buffer @hidden
// PLAN: program.buffer @draft_hidden activation per_token 512
// PLAN: program.buffer @draft_logits activation fixed 16384
// PLAN: program.phase @draft_body_one draft_body tokens(1, 1)
// PLAN-NEXT: program.launch @{{.*}} [@hidden,
// PLAN: program.phase @draft_body_few draft_body tokens(2, 8)
// PLAN: program.phase @draft_body_many draft_body tokens(9, 512)
// PLAN: program.phase @draft_head_one draft_head tokens(1, 1)
// PLAN-NEXT: program.launch @fused_{{.*}} [@draft_hidden, {{.*}}, @draft_logits]
// PLAN-NOT: draft_head_few
func.func @draft(%tokens: tensor<?xi32>, %hidden: tensor<?x128xf32>) -> tensor<?x512xf32> {
  %e = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x128xf32>
  %next = model.rms_norm %e, @enorm eps 1.0e-3 : tensor<?x128xf32>
  %now = model.rms_norm %hidden, @hnorm eps 1.0e-3 : tensor<?x128xf32>
  %both = model.concat %next, %now : (tensor<?x128xf32>, tensor<?x128xf32>) -> tensor<?x256xf32>
  %x = model.linear %both, @eh : (tensor<?x256xf32>) -> tensor<?x128xf32>
  %n = model.rms_norm %x, @mlp_norm eps 1.0e-3 : tensor<?x128xf32>
  %g = model.linear %n, @gate : (tensor<?x128xf32>) -> tensor<?x64xf32>
  %u = model.linear %n, @up : (tensor<?x128xf32>) -> tensor<?x64xf32>
  %a = model.swiglu %g, %u : tensor<?x64xf32>
  %d = model.linear %a, @down : (tensor<?x64xf32>) -> tensor<?x128xf32>
  %y = model.add %x, %d : tensor<?x128xf32>
  %h = model.rms_norm %y, @shared_norm eps 1.0e-3 : tensor<?x128xf32>
  %l = model.linear %h, @lm_head : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %l : tensor<?x512xf32>
}
