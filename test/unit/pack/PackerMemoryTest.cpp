//===- PackerMemoryTest.cpp - Packing stays under its cap -------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "test/unit/pack/PackTestSupport.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace retort {
namespace {

using namespace test;

/// Writes a checkpoint of zeros that takes no disk: a header and a hole.
uint64_t writeSparseCheckpoint(const TempDir &dir) {
  TinyModel model; // for its config.json
  CheckpointBuilder builder(model);
  builder.config.merge_patch({{"vocab_size", 24000},
                              {"hidden_size", 1024},
                              {"intermediate_size", 4096},
                              {"num_hidden_layers", 6}});
  writeText(dir.path("config.json"), builder.config.dump());
  auto config = checkpoint::parseConfig(builder.config.dump());
  if (!config)
    throw std::runtime_error(config.status().message());
  nlohmann::json header = nlohmann::json::object();
  uint64_t at = 0;
  for (const auto &tensor : checkpoint::expectedTensors(*config)) {
    uint64_t bytes = 2;
    for (int64_t dim : tensor.shape)
      bytes *= static_cast<uint64_t>(dim);
    header[tensor.name] = {{"dtype", "BF16"},
                           {"shape", tensor.shape},
                           {"data_offsets", {at, at + bytes}}};
    at += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  uint64_t size = text.size();
  std::string head(8, '\0');
  std::memcpy(head.data(), &size, 8);
  writeText(dir.path("model.safetensors"), head + text);
  std::filesystem::resize_file(dir.path("model.safetensors"), 8 + size + at);
  return at;
}

/// Every matrix as it is, but gate and up together in strips.
std::vector<WeightSpec> specsOf(const checkpoint::Checkpoint &checkpoint) {
  std::vector<WeightSpec> specs;
  for (const checkpoint::TensorView &tensor : checkpoint.tensors()) {
    if (tensor.shape.size() != 2 ||
        tensor.name.find("up_proj") != tensor.name.npos)
      continue;
    WeightSpec spec = wholeMatrix(checkpoint, tensor.name, "int4<32>");
    if (size_t gate = tensor.name.find("gate"); gate != tensor.name.npos) {
      std::string up = tensor.name;
      up.replace(gate, 4, "up");
      spec.rowRuns.clear();
      for (int64_t row = 0; row < spec.rows; row += 32) {
        spec.rowRuns.push_back({tensor.name, row, 32, 2 * row});
        spec.rowRuns.push_back({up, row, 32, 2 * row + 32});
      }
      spec.rows *= 2;
    }
    specs.push_back(std::move(spec));
  }
  return specs;
}

uint64_t statusKiB(const char *field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field))
      return std::stoull(line.substr(line.find(':') + 1));
  return 0;
}

/// Packs in a process of its own, so that its peak is the packer's. Returns the
/// exit status: 0 right, 1 failed, 2 exceeded the cap.
int packUnder(const TempDir &dir, int threads, uint64_t headroom) {
  pid_t child = ::fork();
  if (child == 0) {
    int rc = 1;
    auto opened = checkpoint::Checkpoint::open(dir.path());
    auto file = OutputFile::create(dir.path("out" + std::to_string(threads)));
    if (opened && file) {
      std::vector<WeightSpec> specs = specsOf(*opened);
      PackOptions options;
      options.threads = threads;
      options.maxRam = (statusKiB("VmRSS") << 10) + headroom;
      FileSink sink(*file);
      auto packed = packWeights(specs, *opened, sink, options);
      uint64_t peak = statusKiB("VmHWM") << 10;
      if (packed)
        rc = peak <= options.maxRam ? 0 : 2;
      std::fprintf(stderr, "packed with %d threads: peak %llu of %llu MiB%s\n",
                   threads, static_cast<unsigned long long>(peak >> 20),
                   static_cast<unsigned long long>(options.maxRam >> 20),
                   packed ? "" : packed.status().message().c_str());
    }
    std::_Exit(rc);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(PackerMemoryTest, StaysUnderTheCap) {
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
  GTEST_SKIP() << "the address sanitizer's own memory counts as resident";
#endif
  TempDir dir;
  ASSERT_GT(writeSparseCheckpoint(dir), uint64_t(250) << 20);
  constexpr uint64_t kHeadroom = uint64_t(28) << 20;
  EXPECT_EQ(packUnder(dir, 1, kHeadroom), 0);
  EXPECT_EQ(packUnder(dir, 3, kHeadroom), 0);
}

} // namespace
} // namespace retort
