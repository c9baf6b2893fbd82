// RUN: retort-opt --split-input-file --verify-diagnostics %s

// expected-error@+1 {{expected int8 or int16 in groups of 32, found int4 in groups of 32}}
func.func private @kind(tensor<?x128xf32, #encoding.activation<int4, 32>>)

// -----

// expected-error@+1 {{expected int8 or int16 in groups of 32, found int8 in groups of 64}}
func.func private @group(tensor<?x128xf32, #encoding.activation<int8, 64>>)

// -----

func.func @int4_takes_int8(%x: tensor<?x128xf32, #encoding.activation<int16, 32>>, %w: tensor<64x100xf32, #encoding.packed<int4, 32>>) {
  // expected-error@+1 {{expected inputs that are plain or int8<32> for weights 'tensor<64x100xf32, #encoding.packed<int4, 32>>', found int16<32>}}
  %y = kernel.linear %x, %w : (tensor<?x128xf32, #encoding.activation<int16, 32>>, tensor<64x100xf32, #encoding.packed<int4, 32>>) -> tensor<?x128xf32>
  return
}

// -----

func.func @int8_takes_int16(%x: tensor<?x128xf32, #encoding.activation<int8, 32>>, %w: tensor<64x100xf32, #encoding.packed<int8, 64>>) {
  // expected-error@+1 {{expected inputs that are plain or int16<32> for weights 'tensor<64x100xf32, #encoding.packed<int8, 64>>', found int8<32>}}
  %y = kernel.linear %x, %w : (tensor<?x128xf32, #encoding.activation<int8, 32>>, tensor<64x100xf32, #encoding.packed<int8, 64>>) -> tensor<?x128xf32>
  return
}

// -----

func.func @floats_take_floats(%x: tensor<?x128xf32, #encoding.activation<int8, 32>>, %w: tensor<64x100xf32, #encoding.packed<bf16>>) {
  // expected-error@+1 {{expected inputs that are plain for weights 'tensor<64x100xf32, #encoding.packed<bf16>>', found int8<32>}}
  %y = kernel.linear %x, %w : (tensor<?x128xf32, #encoding.activation<int8, 32>>, tensor<64x100xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  return
}

// -----

func.func @heads(%x: tensor<?x256xf32, #encoding.activation<int16, 32>>, %w: tensor<64x100xf32, #encoding.packed<int4, 32>>) {
  // expected-error@+1 {{expected inputs that are plain or int8<32>}}
  %y = kernel.head_linear %x, %w heads 2 x_head 128 result_head 32 : (tensor<?x256xf32, #encoding.activation<int16, 32>>, tensor<64x100xf32, #encoding.packed<int4, 32>>) -> tensor<?x128xf32>
  return
}

// -----

func.func @only_swiglu_quantizes(%x: tensor<?x128xf32, #encoding.activation<int8, 32>>, %w: tensor<64x100xf32, #encoding.packed<int4, 32>>) {
  // expected-error@+1 {{expected a plain result without the swiglu epilogue}}
  %y = kernel.linear %x, %w : (tensor<?x128xf32, #encoding.activation<int8, 32>>, tensor<64x100xf32, #encoding.packed<int4, 32>>) -> tensor<?x128xf32, #encoding.activation<int8, 32>>
  return
}

// -----

func.func @stride(%x: tensor<?x128xf32>, %w: tensor<100xf32>) {
  // expected-error@+1 {{expected a quantized result's stride to be a multiple of 128, found 160}}
  %y = kernel.rms_norm %x, %w eps 1.0e-6 : (tensor<?x128xf32>, tensor<100xf32>) -> tensor<?x160xf32, #encoding.activation<int8, 32>>
  return
}

// -----

func.func @plain_first(%x: tensor<?x128xf32>, %w: tensor<100xf32>) {
  // expected-error@+1 {{expected the first of several results to be plain}}
  %y:2 = kernel.rms_norm %x, %w eps 1.0e-6 : (tensor<?x128xf32>, tensor<100xf32>) -> (tensor<?x128xf32, #encoding.activation<int8, 32>>, tensor<?x128xf32>)
  return
}

// -----

func.func @forms_differ(%x: tensor<?x128xf32>, %w: tensor<100xf32>) {
  // expected-error@+1 {{expected results of one stride, each in another form}}
  %y:2 = kernel.rms_norm %x, %w eps 1.0e-6 : (tensor<?x128xf32>, tensor<100xf32>) -> (tensor<?x128xf32>, tensor<?x128xf32>)
  return
}

// -----

func.func @plain_operands(%x: tensor<?x128xf32, #encoding.activation<int8, 32>>, %w: tensor<100xf32>) {
  // expected-error@+1 {{operand #0 must be an activation tensor<?xNxf32>}}
  %y = kernel.rms_norm %x, %w eps 1.0e-6 : (tensor<?x128xf32, #encoding.activation<int8, 32>>, tensor<100xf32>) -> tensor<?x128xf32>
  return
}
