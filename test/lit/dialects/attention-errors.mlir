// RUN: retort-opt --split-input-file --verify-diagnostics %s

func.func @caches_of_two_shapes(%q: tensor<?x128xf32>, %k: !kernel.cache<keys, 1 x 32>, %v: !kernel.cache<values, 1 x 64>) {
  // expected-error@+1 {{expected caches of one shape}}
  %y = kernel.attention %q, %k, %v heads 2 scale 0.25 : (tensor<?x128xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<values, 1 x 64>) -> tensor<?x128xf32>
  return
}

// -----

func.func @unpadded_heads(%q: tensor<?x128xf32>, %k: !kernel.cache<keys, 1 x 48>, %v: !kernel.cache<values, 1 x 48>) {
  // expected-error@+1 {{expected a padded head size that is a positive multiple of 32, found 48}}
  %y = kernel.attention %q, %k, %v heads 2 scale 0.25 : (tensor<?x128xf32>, !kernel.cache<keys, 1 x 48>, !kernel.cache<values, 1 x 48>) -> tensor<?x128xf32>
  return
}

// -----

func.func @no_heads(%q: tensor<?x128xf32>, %k: !kernel.cache<keys, 1 x 32>, %v: !kernel.cache<values, 1 x 32>) {
  // expected-error@+1 {{expected query heads that are a multiple of the 1 key/value heads, found 0}}
  %y = kernel.attention %q, %k, %v heads 0 scale 0.25 : (tensor<?x128xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<values, 1 x 32>) -> tensor<?x128xf32>
  return
}

// -----

func.func @result_too_narrow(%q: tensor<?x256xf32>, %k: !kernel.cache<keys, 1 x 32>, %v: !kernel.cache<values, 1 x 32>) {
  // expected-error@+1 {{expected strides of at least 256, found 256 and 128}}
  %y = kernel.attention %q, %k, %v heads 8 scale 0.25 : (tensor<?x256xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<values, 1 x 32>) -> tensor<?x128xf32>
  return
}
