// RUN: retort-opt --plan-program --split-input-file --verify-diagnostics %s

// A module that fuse-launches has not seen.
// expected-error @+1 {{expected functions 'body' and 'head', which fuse-launches makes}}
module {
}
