// RUN: retort-opt %s --split-input-file --verify-diagnostics

// A launch with a cache depends on whose cache it is.
kernel.entry @attention tokens(one) {
^bb0(%q: tensor<?x128xf32>, %k: !kernel.cache<keys, 1 x 32>, %v: !kernel.cache<values, 1 x 32>):
  %y = kernel.attention %q, %k, %v heads 2 scale 0.25 : (tensor<?x128xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<values, 1 x 32>) -> tensor<?x128xf32>
}
program.buffer @q activation per_token 512
program.buffer @y activation per_token 512
program.buffer @keys cache per_position 128
program.buffer @values cache per_position 128
program.phase @body_one body tokens(1, 1) {
  program.launch @attention [@q, @keys, @values, @y] tiles 1 tokens_per_tile 1 layer 0 label "attention" reads_position
  // expected-error @+1 {{expected reads_position beside the cache @keys}}
  program.launch @attention [@q, @keys, @values, @y] tiles 1 tokens_per_tile 1 layer 0 label "attention"
}
