// RUN: retort-opt --lower-kernels=target=z80 --verify-diagnostics %s

// expected-error@+1 {{expected a known CPU target, found 'z80'}}
module {
}
