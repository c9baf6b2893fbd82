// Caches hold what `kv` asks for, and tiles of attention share the positions of a
// token in memory of a sequence's own.

// RUN: retort-opt --quantize-weights="weights=keep" --fuse-launches="kv=int8" %s | FileCheck %s
// RUN: retort-opt --quantize-weights="weights=keep" --fuse-launches="kv=f16" --plan-program %s | FileCheck %s --check-prefix=PLAN
// RUN: retort-opt --quantize-weights="weights=keep" --fuse-launches="kv=f16" --plan-program %s | FileCheck %s --check-prefix=BUFFERS
// RUN: not retort-opt --quantize-weights="weights=keep" --fuse-launches="kv=int4" %s 2>&1 | FileCheck %s --check-prefix=ERROR

model.weight @embed : tensor<64x32xbf16>
model.weight @norm : tensor<32xbf16>
model.weight @q : tensor<32x32xbf16>
model.weight @k : tensor<16x32xbf16>
model.weight @v : tensor<16x32xbf16>
model.weight @o : tensor<32x32xbf16>

// CHECK: kernel.load_cache 0 : <keys, 2 x 32, int8>
// CHECK: kernel.load_cache 0 : <values, 2 x 32, int8>
// CHECK: %[[PARTIALS:.*]] = kernel.load_partials : <16, 2 x 2 x 32>
// CHECK: kernel.attention %{{.*}}, %{{.*}}, %{{.*}}, %[[PARTIALS]] heads 4

// Of 2 x 32 elements of two bytes. One or a few tokens have 16 tiles for each
// key/value head, many tokens one.
// BUFFERS-DAG: program.buffer @layers.0.keys cache per_position 128
// BUFFERS-DAG: program.buffer @layers.0.values cache per_position 128
// BUFFERS-DAG: program.buffer @partials.0 cache fixed
// PLAN: program.phase @body_one
// PLAN: program.launch @attention_0_one [@{{.*}}, @layers.0.keys, @layers.0.values, @partials.0, @{{.*}}] tiles 32 tokens_per_tile 1
// PLAN: program.phase @body_few
// PLAN: program.launch @attention_0_one [{{.*}}] tiles 32 tokens_per_tile 1
// PLAN: program.phase @body_many
// PLAN: program.launch @attention_1_many [{{.*}}] tiles 2 tokens_per_tile 48

// ERROR: kv: expected f32, f16, bf16 or int8, found 'int4'

func.func @forward(%tokens: tensor<?xi32>) -> tensor<?x64xf32> {
  %x = model.embedding %tokens, @embed : (tensor<?xi32>) -> tensor<?x32xf32>
  %n = model.rms_norm %x, @norm eps 1.0e-3 : tensor<?x32xf32>
  %q = model.linear %n, @q : (tensor<?x32xf32>) -> tensor<?x32xf32>
  %k = model.linear %n, @k : (tensor<?x32xf32>) -> tensor<?x16xf32>
  %v = model.linear %n, @v : (tensor<?x32xf32>) -> tensor<?x16xf32>
  %rq = model.rope %q heads 4 inv_freq [1.0, 0.5, 0.25, 0.125] scale 1.0 : tensor<?x32xf32>
  %rk = model.rope %k heads 2 inv_freq [1.0, 0.5, 0.25, 0.125] scale 1.0 : tensor<?x16xf32>
  %a = model.attention %rq, %rk, %v layer 0 heads 4 kv_heads 2 scale 0.5 : (tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x16xf32>) -> tensor<?x32xf32>
  %o = model.linear %a, @o : (tensor<?x32xf32>) -> tensor<?x32xf32>
  %y = model.add %x, %o : tensor<?x32xf32>
  %h = model.rms_norm %y, @norm eps 1.0e-5 : tensor<?x32xf32>
  %l = model.linear %h, @embed : (tensor<?x32xf32>) -> tensor<?x64xf32>
  return %l : tensor<?x64xf32>
}
