// RUN: retort-opt --lower-kernels --split-input-file --verify-diagnostics %s

// What is no launch has no code.
kernel.entry @cache tokens(one) {
  // expected-error@+1 {{'kernel.load_cache' op expected a launch that can be lowered}}
  %c = kernel.load_cache 0 : !kernel.cache<keys, 1 x 32>
}
