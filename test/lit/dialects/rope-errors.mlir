// RUN: retort-opt --split-input-file --verify-diagnostics %s

func.func @unpadded_frequencies(%f: tensor<20xf64>) {
  // expected-error@+1 {{expected frequencies padded to a multiple of 16, found 20}}
  %y = kernel.rope_table %f scale 1.0 : (tensor<20xf64>) -> tensor<?x40xf32>
  return
}

// -----

func.func @qkv_too_narrow(%x: tensor<?x128xf32>, %t: tensor<?x64xf32>, %k: !kernel.cache<keys, 1 x 64>, %v: !kernel.cache<values, 1 x 64>) {
  // expected-error@+1 {{expected a qkv stride of at least 256, found 128}}
  %q, %nk, %nv = kernel.rope_cache %x, %t, %k, %v heads 2
      : (tensor<?x128xf32>, tensor<?x64xf32>, !kernel.cache<keys, 1 x 64>, !kernel.cache<values, 1 x 64>)
      -> (tensor<?x128xf32>, !kernel.cache<keys, 1 x 64>, !kernel.cache<values, 1 x 64>)
  return
}

// -----

func.func @queries_too_narrow(%x: tensor<?x384xf32>, %t: tensor<?x64xf32>, %k: !kernel.cache<keys, 1 x 64>, %v: !kernel.cache<values, 1 x 64>) {
  // expected-error@+1 {{expected a query stride of at least 256, found 128}}
  %q, %nk, %nv = kernel.rope_cache %x, %t, %k, %v heads 4
      : (tensor<?x384xf32>, tensor<?x64xf32>, !kernel.cache<keys, 1 x 64>, !kernel.cache<values, 1 x 64>)
      -> (tensor<?x128xf32>, !kernel.cache<keys, 1 x 64>, !kernel.cache<values, 1 x 64>)
  return
}

// -----

func.func @table_of_another_size(%x: tensor<?x256xf32>, %t: tensor<?x32xf32>, %k: !kernel.cache<keys, 1 x 64>, %v: !kernel.cache<values, 1 x 64>) {
  // expected-error@+1 {{expected a table tensor<?x64xf32>, found 'tensor<?x32xf32>'}}
  %q, %nk, %nv = kernel.rope_cache %x, %t, %k, %v heads 2
      : (tensor<?x256xf32>, tensor<?x32xf32>, !kernel.cache<keys, 1 x 64>, !kernel.cache<values, 1 x 64>)
      -> (tensor<?x128xf32>, !kernel.cache<keys, 1 x 64>, !kernel.cache<values, 1 x 64>)
  return
}

// -----

func.func @returns_other_caches(%x: tensor<?x256xf32>, %t: tensor<?x64xf32>, %k: !kernel.cache<keys, 1 x 64>, %v: !kernel.cache<values, 1 x 64>) {
  // expected-error@+1 {{expected it to return caches of the types it took}}
  %q, %nk, %nv = kernel.rope_cache %x, %t, %k, %v heads 2
      : (tensor<?x256xf32>, tensor<?x64xf32>, !kernel.cache<keys, 1 x 64>, !kernel.cache<values, 1 x 64>)
      -> (tensor<?x128xf32>, !kernel.cache<keys, 2 x 64>, !kernel.cache<values, 1 x 64>)
  return
}
