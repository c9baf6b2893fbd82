//===- CertificateView.h - Certificates for people and programs -*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef RETORT_TOOLS_COMMON_CERTIFICATEVIEW_H
#define RETORT_TOOLS_COMMON_CERTIFICATEVIEW_H

#include "runtime/loader/Certificate.h"

#include <nlohmann/json.hpp>

namespace retort::tools {

/// All of a certificate, with the encodings that the index has of its weights.
nlohmann::ordered_json certificateJson(const abi::CertificateT &certificate,
                                       const abi::Index &index);

/// The same as `inspect --certificate` prints it.
std::string certificateText(const abi::CertificateT &certificate,
                            const abi::Index &index);

/// NotFound: the artifact has none, and which command writes one.
Status noCertificate(const Artifact &artifact);

} // namespace retort::tools

#endif // RETORT_TOOLS_COMMON_CERTIFICATEVIEW_H
