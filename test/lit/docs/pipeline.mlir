// The levels of IR of a model with one feed-forward layer, as docs/pipeline.md
// shows them.

// RUN: retort-opt %s | FileCheck %s --check-prefix=MODEL
// RUN: retort-opt --quantize-weights="weights=int4 group-size=32" %s | FileCheck %s --check-prefix=QUANTIZE
// RUN: retort-opt --quantize-weights="weights=int4 group-size=32" --fuse-launches --encode-activations %s | FileCheck %s --check-prefix=FUSE
// RUN: retort-opt --quantize-weights="weights=int4 group-size=32" --fuse-launches --encode-activations --plan-program %s | FileCheck %s --check-prefix=PLAN

// MODEL: func.func @forward

// doc: model
model.weight @embed.weight : tensor<512x128xbf16>
model.weight @norm.weight : tensor<128xbf16>
model.weight @gate.weight : tensor<256x128xbf16>
model.weight @up.weight : tensor<256x128xbf16>
model.weight @down.weight : tensor<128x256xbf16>
model.weight @final.weight : tensor<128xbf16>

func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x512xf32> {
  %x = model.embedding %tokens, @embed.weight : (tensor<?xi32>) -> tensor<?x128xf32>
  %n = model.rms_norm %x, @norm.weight eps 1.0e-3 : tensor<?x128xf32>
  %gate = model.linear %n, @gate.weight : (tensor<?x128xf32>) -> tensor<?x256xf32>
  %up = model.linear %n, @up.weight : (tensor<?x128xf32>) -> tensor<?x256xf32>
  %act = model.swiglu %gate, %up : tensor<?x256xf32>
  %down = model.linear %act, @down.weight : (tensor<?x256xf32>) -> tensor<?x128xf32>
  %y = model.add %x, %down : tensor<?x128xf32>
  %last = model.rms_norm %y, @final.weight eps 1.0e-3 : tensor<?x128xf32>
  %logits = model.linear %last, @embed.weight : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %logits : tensor<?x512xf32>
}
// doc: end

// doc: quantize
// QUANTIZE: model.weight @embed.weight : tensor<512x128xf32, #encoding.packed<int8, 32>>
// QUANTIZE-NEXT: model.weight @norm.weight : tensor<128xbf16>
// QUANTIZE-NEXT: model.weight @gate.weight : tensor<256x128xf32, #encoding.packed<int4, 32>>
// QUANTIZE-NEXT: model.weight @up.weight : tensor<256x128xf32, #encoding.packed<int4, 32>>
// QUANTIZE-NEXT: model.weight @down.weight : tensor<128x256xf32, #encoding.packed<int4, 32>>
// QUANTIZE-NEXT: model.weight @final.weight : tensor<128xbf16>
// QUANTIZE-NEXT: func.func @forward(%arg0: tensor<?xi32>) -> tensor<?x512xf32> {
// QUANTIZE-NEXT:   %0 = model.embedding %arg0, @embed.weight : (tensor<?xi32>) -> tensor<?x128xf32>
// QUANTIZE-NEXT:   %1 = model.rms_norm %0, @norm.weight eps 1.000000e-03 : tensor<?x128xf32>
// ...
// doc: end

// doc: fuse
// FUSE: func.func @body(%arg0: tensor<?xi32>) -> tensor<?x128xf32> {
// FUSE-NEXT:   %0 = kernel.load_weight @packed.embed.weight : tensor<512x128xf32, #encoding.packed<int8, 32>>
// FUSE-NEXT:   %1 = kernel.embed %arg0, %0 {kernel.label = "embed"} : (tensor<?xi32>, tensor<512x128xf32, #encoding.packed<int8, 32>>) -> tensor<?x128xf32>
// FUSE-NEXT:   %2 = kernel.load_weight @packed.norm.weight : tensor<128xf32>
// FUSE-NEXT:   %result = kernel.rms_norm %1, %2 eps 1.000000e-03 {kernel.label = "rms_norm", kernel.layer = 0 : i64} : (tensor<?x128xf32>, tensor<128xf32>) -> tensor<?x128xf32, #encoding.activation<int8, 32>>
// FUSE-NEXT:   %3 = kernel.load_weight @packed.layers.0.gate_up : tensor<512x128xf32, #encoding.packed<int4, 32>>
// FUSE-NEXT:   %4 = kernel.linear %result, %3 epilogue swiglu {kernel.label = "linear gate_up", kernel.layer = 0 : i64} : (tensor<?x128xf32, #encoding.activation<int8, 32>>, tensor<512x128xf32, #encoding.packed<int4, 32>>) -> tensor<?x256xf32, #encoding.activation<int8, 32>>
// FUSE-NEXT:   %5 = kernel.load_weight @packed.down.weight : tensor<128x256xf32, #encoding.packed<int4, 32>>
// FUSE-NEXT:   %6 = kernel.linear %4, %5 residual %1 : tensor<?x128xf32> {kernel.label = "linear down", kernel.layer = 0 : i64} : (tensor<?x256xf32, #encoding.activation<int8, 32>>, tensor<128x256xf32, #encoding.packed<int4, 32>>) -> tensor<?x128xf32>
// FUSE-NEXT:   return %6 : tensor<?x128xf32>
// FUSE-NEXT: }
// ...
// FUSE{LITERAL}: kernel.weight @packed.down.weight : tensor<128x256xf32, #encoding.packed<int4, 32>> rows [["down.weight", 0, 128, 0]] cols [[0, 256, 0]]
// ...
// FUSE: func.func @head(%arg0: tensor<?x128xf32>) -> tensor<?x512xf32> {
// FUSE-NEXT:   %0 = kernel.load_weight @packed.final.weight : tensor<128xf32>
// FUSE-NEXT:   %result = kernel.rms_norm %arg0, %0 eps 1.000000e-03 from_first_row {kernel.label = "rms_norm"} : (tensor<?x128xf32>, tensor<128xf32>) -> tensor<?x128xf32, #encoding.activation<int16, 32>>
// FUSE-NEXT:   %1 = kernel.load_weight @packed.embed.weight : tensor<512x128xf32, #encoding.packed<int8, 32>>
// FUSE-NEXT:   %2 = kernel.linear %result, %1 {kernel.label = "linear head"} : (tensor<?x128xf32, #encoding.activation<int16, 32>>, tensor<512x128xf32, #encoding.packed<int8, 32>>) -> tensor<?x512xf32>
// FUSE-NEXT:   return %2 : tensor<?x512xf32>
// FUSE-NEXT: }
// doc: end

// doc: plan
// PLAN: program.buffer @tokens activation per_token 4
// PLAN-NEXT: program.buffer @hidden activation per_token 512
// PLAN-NEXT: program.buffer @row_0 activation per_token 192
// PLAN-NEXT: program.buffer @row_1 activation per_token 320
// PLAN-NEXT: program.buffer @fixed_2 activation fixed 10240
// PLAN-NEXT: program.buffer @logits activation fixed 65536
// ...
// PLAN: program.phase @head_one head tokens(1, 1) {
// PLAN-NEXT:   program.launch @fused_1_one [@hidden, @packed.final.weight, @packed.embed.weight, @logits] tiles 16 tokens_per_tile 0 layer -1 label "linear head" weight_bytes 69632 bytes_per_token 2560 flops_per_token 131584
// PLAN-NEXT: }
// ...
// PLAN: kernel.entry @fused_1_one tokens(one) {
// PLAN-NEXT: ^bb0(%arg0: tensor<?x128xf32>, %arg1: tensor<128xf32>, %arg2: tensor<512x128xf32, #encoding.packed<int8, 32>>):
// PLAN-NEXT:   %0 = kernel.fused %arg0, %arg1, %arg2 : (tensor<?x128xf32>, tensor<128xf32>, tensor<512x128xf32, #encoding.packed<int8, 32>>) -> tensor<?x512xf32> {
// PLAN-NEXT:   ^bb0(%arg3: tensor<?x128xf32>, %arg4: tensor<128xf32>, %arg5: tensor<512x128xf32, #encoding.packed<int8, 32>>):
// PLAN-NEXT:     %result = kernel.rms_norm %arg3, %arg4 eps 1.000000e-03 from_first_row : (tensor<?x128xf32>, tensor<128xf32>) -> tensor<?x128xf32, #encoding.activation<int16, 32>>
// PLAN-NEXT:     %1 = kernel.linear %result, %arg5 : (tensor<?x128xf32, #encoding.activation<int16, 32>>, tensor<512x128xf32, #encoding.packed<int8, 32>>) -> tensor<?x512xf32>
// PLAN-NEXT:     kernel.yield %1 : tensor<?x512xf32>
// PLAN-NEXT:   }
// PLAN-NEXT: }
// ...
// PLAN: program.phase @head_few head tokens(2, 8) {
// PLAN-NEXT:   program.launch @rms_norm_1 [@hidden, @packed.final.weight, @fixed_2] tiles 1 tokens_per_tile 8 layer -1 label "rms_norm" bytes_per_token 832 flops_per_token 512
// PLAN-NEXT:   program.launch @linear_5_few [@fixed_2, @packed.embed.weight, @logits] tiles 16 tokens_per_tile 0 layer -1 label "linear head" weight_bytes 69632 bytes_per_token 2368 flops_per_token 131072
// PLAN-NEXT: }
// doc: end
