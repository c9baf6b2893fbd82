//===- Certificate.h - What an artifact says of its fidelity ----*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Reads the section that runtime/abi/certificate.fbs describes, and puts
/// another in its place.
///
//===----------------------------------------------------------------------===//

#ifndef RETORT_RUNTIME_LOADER_CERTIFICATE_H
#define RETORT_RUNTIME_LOADER_CERTIFICATE_H

#include "runtime/abi/certificate_generated.h"
#include "runtime/loader/Artifact.h"

#include <optional>

namespace retort {

inline constexpr const char *kCertificateSection = "data/certificate";

/// What `Certificate.weights` must be: a hash of names, places and hashes.
uint64_t hashWeights(const abi::Program &program);
uint64_t hashWeights(const abi::ProgramT &program);

/// The bytes of the section, before they are compressed.
std::string encodeCertificate(const abi::CertificateT &certificate);

/// Reads and checks what encodeCertificate() wrote for the model of `index`.
/// InvalidData naming the field.
Result<abi::CertificateT> parseCertificate(std::string_view bytes,
                                           const abi::Index &index);

/// The artifact's certificate; nothing if it has none.
Result<std::optional<abi::CertificateT>>
readCertificate(const Artifact &artifact);

/// Writes the artifact's file anew, with this certificate in place of the one
/// it had; parts stay. The file is replaced when the new one is whole: until
/// then it is as it was, whatever happens. The open artifact goes on reading
/// the old one. InvalidData if it was changed meanwhile.
Status replaceCertificate(const Artifact &artifact,
                          const abi::CertificateT &certificate);

} // namespace retort

#endif // RETORT_RUNTIME_LOADER_CERTIFICATE_H
