// RUN: retort-opt --split-input-file --verify-diagnostics %s

func.func @caches_of_two_shapes(%q: tensor<?x128xf32>, %k: !kernel.cache<keys, 1 x 32>, %v: !kernel.cache<values, 1 x 64>) {
  // expected-error@+1 {{expected caches of one shape and element}}
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

// -----

func.func @caches_of_two_elements(%q: tensor<?x128xf32>, %k: !kernel.cache<keys, 1 x 32, f16>, %v: !kernel.cache<values, 1 x 32, bf16>) {
  // expected-error@+1 {{expected caches of one shape and element, found '!kernel.cache<keys, 1 x 32, f16>' and '!kernel.cache<values, 1 x 32, bf16>'}}
  %y = kernel.attention %q, %k, %v heads 2 scale 0.25 : (tensor<?x128xf32>, !kernel.cache<keys, 1 x 32, f16>, !kernel.cache<values, 1 x 32, bf16>) -> tensor<?x128xf32>
  return
}

// -----

// expected-error@+2 {{expected f32, f16, bf16 or int8, found 'int4'}}
// expected-error@+1 {{failed to parse Kernel_CacheType parameter 'element'}}
func.func @unknown_element(%k: !kernel.cache<keys, 1 x 32, int4>) {
  return
}

// -----

func.func @partials_of_another_shape(%q: tensor<?x128xf32>, %k: !kernel.cache<keys, 1 x 32>, %v: !kernel.cache<values, 1 x 32>, %p: !kernel.partials<4, 1 x 3 x 32>) {
  // expected-error@+1 {{expected partials for 1 x 2 x 32, found '!kernel.partials<4, 1 x 3 x 32>'}}
  %y = kernel.attention %q, %k, %v, %p heads 2 scale 0.25 : (tensor<?x128xf32>, !kernel.cache<keys, 1 x 32>, !kernel.cache<values, 1 x 32>, !kernel.partials<4, 1 x 3 x 32>) -> tensor<?x128xf32>
  return
}

// -----

// expected-error@+1 {{expected at least 2 tiles and a positive shape, found 1 and 1 x 2 x 32}}
func.func @nothing_to_share(%p: !kernel.partials<1, 1 x 2 x 32>) {
  return
}
