// RUN: retort-opt --encode-activations --split-input-file %s | FileCheck %s

// One form for all consumers: the producer's result takes it.
// CHECK-LABEL: func.func @one_form
// CHECK: %[[Y:.*]] = kernel.rms_norm {{.*}} -> tensor<?x128xf32, #encoding.activation<int8, 32>>
// CHECK: kernel.linear %[[Y]], %{{.*}} epilogue swiglu {{.*}} -> tensor<?x128xf32, #encoding.activation<int16, 32>>
func.func @one_form(%x: tensor<?x128xf32>, %n: tensor<100xf32>, %u: tensor<256x100xf32, #encoding.packed<int4, 32>>,
                    %d: tensor<128x128xf32, #encoding.packed<int8, 32>>) -> tensor<?x128xf32> {
  %y = kernel.rms_norm %x, %n eps 1.0e-6 : (tensor<?x128xf32>, tensor<100xf32>) -> tensor<?x128xf32>
  %h = kernel.linear %y, %u epilogue swiglu : (tensor<?x128xf32>, tensor<256x100xf32, #encoding.packed<int4, 32>>) -> tensor<?x128xf32>
  %z = kernel.linear %h, %d residual %x : tensor<?x128xf32> : (tensor<?x128xf32>, tensor<128x128xf32, #encoding.packed<int8, 32>>) -> tensor<?x128xf32>
  return %z : tensor<?x128xf32>
}

// -----

// A norm gives every consumer its form, the plain one first.
// CHECK-LABEL: func.func @forms
// CHECK: %[[Y:.*]], %[[Q:.*]]:2 = kernel.rms_norm {{.*}} {kernel.label = "norm"} : {{.*}} -> (tensor<?x128xf32>, tensor<?x128xf32, #encoding.activation<int16, 32>>, tensor<?x128xf32, #encoding.activation<int8, 32>>)
// CHECK-DAG: kernel.linear %[[Y]], %{{.*}} -> tensor<?x128xf32>
// CHECK-DAG: kernel.linear %[[Q]]#1, %{{.*}}int8
// CHECK-DAG: kernel.linear %[[Q]]#0, %{{.*}}int16
func.func @forms(%x: tensor<?x128xf32>, %n: tensor<100xf32>, %r: tensor<32x100xf32, #encoding.packed<bf16>>,
                 %a: tensor<128x100xf32, #encoding.packed<int4, 32>>, %b: tensor<128x100xf32, #encoding.packed<int8, 64>>) {
  %y = kernel.rms_norm %x, %n eps 1.0e-6 {kernel.label = "norm"} : (tensor<?x128xf32>, tensor<100xf32>) -> tensor<?x128xf32>
  %0 = kernel.linear %y, %r : (tensor<?x128xf32>, tensor<32x100xf32, #encoding.packed<bf16>>) -> tensor<?x128xf32>
  %1 = kernel.linear %y, %a : (tensor<?x128xf32>, tensor<128x100xf32, #encoding.packed<int4, 32>>) -> tensor<?x128xf32>
  %2 = kernel.linear %y, %b : (tensor<?x128xf32>, tensor<128x100xf32, #encoding.packed<int8, 64>>) -> tensor<?x128xf32>
  return
}

// -----

// What a launch cannot quantize, or what is wanted as it is, stays.
// CHECK-LABEL: func.func @plain
// CHECK-NOT: #encoding.activation
func.func @plain(%x: tensor<?x128xf32>, %n: tensor<100xf32>, %w: tensor<128x100xf32, #encoding.packed<int4, 32>>,
                 %f: tensor<128x100xf32, #encoding.packed<f16>>) -> tensor<?x128xf32> {
  %a = kernel.linear %x, %w : (tensor<?x128xf32>, tensor<128x100xf32, #encoding.packed<int4, 32>>) -> tensor<?x128xf32>
  %b = kernel.linear %a, %w : (tensor<?x128xf32>, tensor<128x100xf32, #encoding.packed<int4, 32>>) -> tensor<?x128xf32>
  %y = kernel.rms_norm %b, %n eps 1.0e-6 : (tensor<?x128xf32>, tensor<100xf32>) -> tensor<?x128xf32>
  %c = kernel.linear %y, %f : (tensor<?x128xf32>, tensor<128x100xf32, #encoding.packed<f16>>) -> tensor<?x128xf32>
  return %c : tensor<?x128xf32>
}

// -----

// Attention and the product of its heads.
// CHECK-LABEL: func.func @attention
// CHECK: kernel.attention {{.*}} -> tensor<?x128xf32, #encoding.activation<int8, 32>>
// CHECK: kernel.head_linear {{.*}} -> tensor<?x128xf32, #encoding.activation<int16, 32>>
func.func @attention(%q: tensor<?x128xf32>, %k: !kernel.cache<keys, 1 x 64>, %v: !kernel.cache<values, 1 x 64>,
                     %h: tensor<128x64xf32, #encoding.packed<int4, 32>>, %o: tensor<128x128xf32, #encoding.packed<int8, 32>>) -> tensor<?x128xf32> {
  %a = kernel.attention %q, %k, %v heads 2 scale 0.25 : (tensor<?x128xf32>, !kernel.cache<keys, 1 x 64>, !kernel.cache<values, 1 x 64>) -> tensor<?x128xf32>
  %b = kernel.head_linear %a, %h heads 2 x_head 64 result_head 64 : (tensor<?x128xf32>, tensor<128x64xf32, #encoding.packed<int4, 32>>) -> tensor<?x128xf32>
  %c = kernel.linear %b, %o : (tensor<?x128xf32>, tensor<128x128xf32, #encoding.packed<int8, 32>>) -> tensor<?x128xf32>
  return %c : tensor<?x128xf32>
}
