// The levels of IR of a model with one feed-forward layer, as docs/pipeline.md
// shows them.

// RUN: retort-opt %s | FileCheck %s --check-prefix=MODEL
// RUN: retort-opt --quantize-weights="weights=int4 group-size=32" %s | FileCheck %s --check-prefix=QUANTIZE
// RUN: retort-opt --quantize-weights="weights=int4 group-size=32" --fuse-launches %s | FileCheck %s --check-prefix=FUSE
// RUN: retort-opt --quantize-weights="weights=int4 group-size=32" --fuse-launches --plan-program %s | FileCheck %s --check-prefix=PLAN

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
  %n = model.rms_norm %x, @norm.weight eps 1.0e-6 : tensor<?x128xf32>
  %gate = model.linear %n, @gate.weight : (tensor<?x128xf32>) -> tensor<?x256xf32>
  %up = model.linear %n, @up.weight : (tensor<?x128xf32>) -> tensor<?x256xf32>
  %act = model.swiglu %gate, %up : tensor<?x256xf32>
  %down = model.linear %act, @down.weight : (tensor<?x256xf32>) -> tensor<?x128xf32>
  %y = model.add %x, %down : tensor<?x128xf32>
  %last = model.rms_norm %y, @final.weight eps 1.0e-6 : tensor<?x128xf32>
  %logits = model.linear %last, @embed.weight : (tensor<?x128xf32>) -> tensor<?x512xf32>
  return %logits : tensor<?x512xf32>
}
// doc: end
