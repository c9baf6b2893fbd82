//===- RunToolTest.cpp - retort-run as a process ----------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "runtime/support/File.h"
#include "runtime/text/Sampler.h"
#include "test/unit/loader/ArtifactBuilder.h"
#include "tools/common/Commands.h"

#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <sys/wait.h>

using namespace retort;
using namespace retort::test;
using testing::HasSubstr;

namespace {

struct Ran {
  int code;
  std::string out, err;
};

/// Runs a shell command with its output taken apart.
Ran runShell(const std::string &command) {
  TempFile out("stdout"), err("stderr");
  int status = std::system(
      ("(" + command + ") >" + out.path + " 2>" + err.path).c_str());
  auto read = [](const std::string &path) {
    auto text = readFile(path, 1 << 24);
    return text.isOk() ? *text : std::string();
  };
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read(out.path),
          read(err.path)};
}

Bytes modelBytes(bool tokenizer) {
  ArtifactBuilder builder;
  if (tokenizer)
    builder.addTokenizer();
  return builder.build();
}

class RunToolTest : public testing::Test {
protected:
  Ran run(const std::string &flags) {
    return runShell(std::string(RETORT_RUN) + " " + model.path + " " + flags);
  }
  TempFile model{"model.retort", modelBytes(true)};
};

/// One line on standard error, nothing else.
void expectError(const Ran &ran, const char *message) {
  EXPECT_EQ(ran.code, 1) << ran.err;
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, HasSubstr(message));
  EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
}

std::vector<int32_t> greedyFrom(std::vector<int32_t> tokens, size_t count) {
  std::vector<int32_t> out;
  for (size_t i = 0; i < count; ++i) {
    out.push_back(*greedyToken(expectedLogits(tokens)));
    tokens.push_back(out.back());
  }
  return out;
}

TEST_F(RunToolTest, GeneratesIds) {
  Ran ran = run("--tokens 72,101,108 -n 5 --temp 0 --json --ignore-eos");
  ASSERT_EQ(ran.code, 0) << ran.err;
  auto json = nlohmann::json::parse(ran.out);
  EXPECT_EQ(json["ids"].get<std::vector<int32_t>>(),
            greedyFrom({72, 101, 108}, 5));
  EXPECT_EQ(json["stop"], "length");
}

TEST_F(RunToolTest, PromptGoesThroughTheTemplate) {
  auto prompt = [](const char *text) {
    std::vector<int32_t> ids;
    ids.assign(text, text + strlen(text));
    return ids;
  };
  std::vector<int32_t> chat = {256};
  for (int32_t id : prompt("user:Hi"))
    chat.push_back(id);
  chat.insert(chat.end(), {257, 256});
  for (int32_t id : prompt("assistant:"))
    chat.push_back(id);
  const std::string flags = " -n 4 --temp 0 --json --ignore-eos";
  auto ids = [&](const std::string &input) {
    Ran ran = run(input + flags);
    EXPECT_EQ(ran.code, 0) << ran.err;
    return nlohmann::json::parse(ran.out)["ids"].get<std::vector<int32_t>>();
  };
  EXPECT_EQ(ids("-p Hi"), greedyFrom(chat, 4));
  EXPECT_EQ(ids("-p Hi --raw"), greedyFrom(prompt("Hi"), 4));
}

TEST_F(RunToolTest, WritesLogits) {
  TempFile out("logits.safetensors");
  for (const char *flags : {"--prefill-chunk 1", "--threads 3", ""}) {
    Ran ran = run("--tokens 72,101,108,5 -n 3 --temp 0 --logits " + out.path +
                  " " + flags);
    ASSERT_EQ(ran.code, 0) << ran.err;
    auto file = readFile(out.path, 1 << 20);
    ASSERT_TRUE(file.isOk());
    uint64_t size;
    std::memcpy(&size, file->data(), 8);
    auto header = nlohmann::json::parse(file->substr(8, size));
    EXPECT_EQ(header["logits"]["shape"], (std::vector<int>{4, kVocab}));
    EXPECT_EQ(header["logits"]["dtype"], "F32");
    EXPECT_EQ(header["greedy_ids"]["dtype"], "I32");
    std::vector<float> last(kVocab);
    std::memcpy(last.data(), file->data() + 8 + size + 3 * kVocab * 4,
                kVocab * 4);
    EXPECT_EQ(last, expectedLogits(std::vector<int32_t>{72, 101, 108, 5}));
    std::vector<int32_t> ids(3);
    std::memcpy(ids.data(), file->data() + 8 + size + 4 * kVocab * 4, 12);
    EXPECT_EQ(ids, greedyFrom({72, 101, 108, 5}, 3));
  }
}

TEST_F(RunToolTest, ReadsTokensFromAFile) {
  TempFile tokens("ids.txt", std::as_bytes(std::span("72\n101,108", 10)));
  Ran a = run("--tokens @" + tokens.path + " -n 5 --json");
  Ran b = run("--tokens 72,101,108 -n 5 --json");
  ASSERT_EQ(a.code, 0) << a.err;
  EXPECT_EQ(nlohmann::json::parse(a.out)["ids"],
            nlohmann::json::parse(b.out)["ids"]);
}

TEST_F(RunToolTest, ChatAnswersEachLine) {
  Ran ran = runShell("printf 'Hi\\nYou\\n' | " + std::string(RETORT_RUN) + " " +
                     model.path + " --chat -n 3 --temp 0 --stats");
  EXPECT_EQ(ran.code, 0) << ran.err;
  // The second turn feeds less than the whole conversation.
  EXPECT_THAT(ran.err, HasSubstr("prefill 20 tokens"));
  EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 2) << ran.err;
}

TEST_F(RunToolTest, SelfTest) {
  Ran ran = run("--selftest");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("self test passed"));
}

TEST_F(RunToolTest, StatsGoToStandardError) {
  Ran ran = run("-p Hi -n 4 --stats");
  EXPECT_EQ(ran.code, 0);
  EXPECT_THAT(ran.err, HasSubstr("GB/s"));
}

TEST_F(RunToolTest, BadPrompts) {
  expectError(run("-p ''"), "prompt: expected text, found none");
  expectError(run("-p \"$(printf 'a\\377b')\""), "offset 1");
  expectError(run("-f /dev/null"), "");
  expectError(run("-f /nonexistent/prompt"), "/nonexistent/prompt");
  expectError(run("--raw -p " + std::string(kMaxContext + 1, 'x')),
              "the prompt has 101 tokens, expected at most 100");
  expectError(run("--tokens ''"), "tokens: expected at least one");
  expectError(run("--tokens 1,x"), "found 'x'");
  expectError(run("--tokens 1,99999999999"), "99999999999");
  expectError(run("--tokens 260"), "id 260 is not in the vocabulary");
  expectError(run("--tokens=-1"), "id -1");
}

TEST_F(RunToolTest, BadOptionsOfTheModel) {
  expectError(run("-p a --context 101"), "expected 1 to 100");
  expectError(run("-p a --prefill-chunk 9"), "expected at most 8");
  expectError(run("-p a --temp -1"), "temperature");
  expectError(run("-p a --code vax"), "'vax'");
  expectError(run("--tokens 1,2 -n 100 --logits /tmp/never"), "don't fit");
  expectError(run("--tokens 1,2 --logits /nonexistent/x"), "/nonexistent/x");
}

TEST_F(RunToolTest, WrongUsageIsTwo) {
  for (const char *flags :
       {"", "-p a --chat", "-p a --logits x", "--nonsense", "-p a -n x",
        "-p a --threads 0", "--tokens 1 -n 2 --temp 1 --logits x",
        "--tokens 1 --system x", "-p a -n -5"}) {
    Ran ran = run(flags);
    EXPECT_EQ(ran.code, 2) << flags << ": " << ran.err;
    EXPECT_NE(ran.err, "");
  }
  EXPECT_EQ(runShell(RETORT_RUN).code, 2);
  EXPECT_EQ(runShell(RETORT_RUN " --help").code, 0);
}

TEST_F(RunToolTest, BrokenModels) {
  expectError(runShell(RETORT_RUN " /nonexistent/m -p a"), "/nonexistent/m");
  expectError(runShell(RETORT_RUN " /tmp -p a"), "directory");
  Bytes damaged = modelBytes(true);
  damaged[9000] ^= std::byte{1};
  TempFile file("damaged", damaged);
  expectError(runShell(RETORT_RUN " " + file.path + " -p a"), "damaged");
}

TEST_F(RunToolTest, ClosedPipeIsAnError) {
  Ran ran = runShell("(" + std::string(RETORT_RUN) + " " + model.path +
                     " -p Hi -n 50 --ignore-eos; echo code $? >&2) | true");
  EXPECT_THAT(ran.err, HasSubstr("code "));
  EXPECT_THAT(ran.err, testing::Not(HasSubstr("code 141")));
}

TEST_F(RunToolTest, FullDiskIsAnError) {
  Ran ran = runShell(std::string(RETORT_RUN) + " " + model.path +
                     " -p Hi -n 5 --ignore-eos --special >/dev/full");
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, HasSubstr("standard output: cannot write"));
}

TEST(RunWithoutTextTest, TakesTokensAndPrintsIds) {
  TempFile model("plain.retort", modelBytes(false));
  std::string tool = RETORT_RUN " " + model.path;
  Ran ran = runShell(tool + " --tokens 72,101 -n 3 --ignore-eos");
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.out, tools::formatIds(greedyFrom({72, 101}, 3)) + "\n");
  expectError(runShell(tool + " -p a"), "without a tokenizer");
}

TEST(StandaloneTest, RunsWithoutAModelArgument) {
  auto tool = readFile(RETORT_RUN, 1 << 30);
  ASSERT_TRUE(tool.isOk());
  Bytes file;
  auto bytes = std::as_bytes(std::span(tool->data(), tool->size()));
  file.assign(bytes.begin(), bytes.end());
  file.resize((file.size() + 4095) / 4096 * 4096);
  Bytes artifact = modelBytes(true);
  retort::abi::StandaloneFooter footer{file.size(), artifact.size(), {}};
  std::memcpy(footer.magic, retort::abi::kFooterMagic, 8);
  file.insert(file.end(), artifact.begin(), artifact.end());
  auto tail = std::as_bytes(std::span(&footer, 1));
  file.insert(file.end(), tail.begin(), tail.end());
  TempFile standalone("standalone", file);
  ::chmod(standalone.path.c_str(), 0755);
  Ran ran = runShell(standalone.path + " --tokens 72,101 -n 3 --json");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(runShell(standalone.path + " model.retort -p a").code, 2);
}

TEST(ExampleTest, GeneratesTheSameInTwoWays) {
  TempFile model("example.retort", modelBytes(true));
  Ran ran = runShell(RETORT_EXAMPLE " " + model.path + " Hello 20");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(runShell(RETORT_EXAMPLE " /nonexistent/x Hello").code, 1);
}

/// Runs one of the other commands in this process.
Ran runCommand(tools::Action (*add)(CLI::App &),
               std::vector<std::string> args) {
  CLI::App app;
  auto action = add(app);
  std::vector<char *> argv = {const_cast<char *>("tool")};
  for (std::string &arg : args)
    argv.push_back(arg.data());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  int code =
      tools::runTool(app, static_cast<int>(argv.size()), argv.data(), action);
  std::string out = testing::internal::GetCapturedStdout();
  return {code, out, testing::internal::GetCapturedStderr()};
}

TEST(CommandTest, InspectDescribes) {
  TempFile model("inspect.retort", modelBytes(true));
  Ran text = runCommand(tools::addInspectCommand,
                        {model.path, "--weights", "--program", "--code"});
  EXPECT_EQ(text.code, 0) << text.err;
  for (const char *part : {"embed.weight", "test_mix", "layers", "head of 1"})
    EXPECT_THAT(text.out, HasSubstr(part));
  Ran json = runCommand(
      tools::addInspectCommand,
      {model.path, "--json", "--code", "--context", "64", "--threads", "2"});
  ASSERT_EQ(json.code, 0) << json.err;
  auto d = nlohmann::json::parse(json.out);
  EXPECT_EQ(d["memory"]["caches"], 64 * 4 * kHidden);
  EXPECT_EQ(d["code"][0]["target"], "host");
  Ran batch =
      runCommand(tools::addInspectCommand,
                 {model.path, "--json", "--context", "64", "--sequences", "5"});
  ASSERT_EQ(batch.code, 0) << batch.err;
  EXPECT_EQ(nlohmann::json::parse(batch.out)["memory"]["caches"],
            5 * 64 * 4 * kHidden);
  EXPECT_EQ(
      runCommand(tools::addInspectCommand, {model.path, "--sequences", "0"})
          .code,
      2);
  EXPECT_EQ(runCommand(tools::addInspectCommand, {"/nonexistent"}).code, 1);
}

TEST(CommandTest, CheckFindsDamage) {
  TempFile model("check.retort", modelBytes(true));
  Ran good = runCommand(tools::addCheckCommand, {model.path});
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_THAT(good.out, HasSubstr("self test passed"));
  Bytes bytes = ArtifactBuilder().build([](retort::abi::IndexT &index) {
    index.self_test->last_logits[3] += 100;
  });
  TempFile wrong("wrong.retort", bytes);
  Ran bad = runCommand(tools::addCheckCommand, {wrong.path});
  EXPECT_EQ(bad.code, 1);
  EXPECT_THAT(bad.err, HasSubstr("self test: expected token 3"));
}

TEST(CommandTest, BenchHasTheFieldsThatProgramsRead) {
  TempFile model("bench.retort", modelBytes(true));
  Ran ran = runCommand(tools::addBenchCommand,
                       {model.path, "--prompt", "16", "--gen", "8", "--reps",
                        "2", "--threads", "2", "--json", "--ledger"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  auto d = nlohmann::json::parse(ran.out);
  for (const char *field : {"prefill_tps", "decode_tps", "load_ms",
                            "bytes_per_token", "read_gbps", "machine_gbps"})
    EXPECT_GT(d[field].get<double>(), 0) << field;
  EXPECT_EQ(d["ledger"].size(), 8u); // four for the prompt, four for tokens
  Ran large = runCommand(tools::addBenchCommand, {model.path});
  EXPECT_EQ(large.code, 1);
}

TEST(CommandTest, BenchSetsBatchesAgainstOne) {
  TempFile model("batch.retort", modelBytes(true));
  Ran ran =
      runCommand(tools::addBenchCommand,
                 {model.path, "--prompt", "16", "--gen", "8", "--reps", "2",
                  "--threads", "2", "--batch", "4,2,4", "--json", "--ledger"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  auto d = nlohmann::json::parse(ran.out);
  ASSERT_EQ(d["batch"].size(), 3u);
  for (int i : {0, 1, 2}) {
    EXPECT_EQ(d["batch"][i]["sequences"], 1 << i);
    EXPECT_GT(d["batch"][i]["decode_tps"], 0.0);
    EXPECT_GT(d["batch"][i]["over_one"], 0.0);
  }
  EXPECT_EQ(d["batch"][0]["over_one"], 1.0);
  EXPECT_EQ(d["cache_bytes"], 4 * 64 * 4 * kHidden);
  // Steps of 3, for which the head is made, and of 1.
  EXPECT_EQ(d["ledger"].size(), 8u);
  Ran text =
      runCommand(tools::addBenchCommand, {model.path, "--prompt", "5", "--gen",
                                          "2", "--reps", "1", "--batch", "3"});
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("over 1"));
  EXPECT_THAT(text.out, HasSubstr("\n3 "));
}

TEST(CommandTest, BenchRefusesBatchesThatAreNone) {
  TempFile model("batch.retort", modelBytes(true));
  for (const char *wrong : {"0", "1,0", "-1", "two", "1,,2", "1,", ",1", " 1",
                            "2000", "1.5", "", "99999999999999999999"})
    EXPECT_EQ(
        runCommand(tools::addBenchCommand, {model.path, "--prompt", "5",
                                            "--gen", "2", "--batch", wrong})
            .code,
        2)
        << wrong;
  EXPECT_EQ(runCommand(tools::addBenchCommand, {model.path, "--prompt", "5",
                                                "--gen", "0", "--batch", "2"})
                .code,
            2);
  Ran large = runCommand(tools::addBenchCommand, {model.path, "--batch", "2"});
  EXPECT_EQ(large.code, 1);
}

TEST(CommandTest, TokenizeGoesBothWays) {
  TempFile model("tokenize.retort", modelBytes(true));
  auto run = [&](std::vector<std::string> args) {
    args.insert(args.begin(), model.path);
    return runCommand(tools::addTokenizeCommand, args);
  };
  EXPECT_EQ(run({"Hi<|end|>"}).out, "72,105,257\n");
  EXPECT_EQ(run({"72,105,257", "--decode"}).out, "Hi\n");
  EXPECT_EQ(run({"72,105,257", "--decode", "--special"}).out, "Hi<|end|>\n");
  std::string line = "{\"text\": \"Hi\"}\nnonsense\n";
  TempFile lines("lines.jsonl", std::as_bytes(std::span(line)));
  Ran jsonl = run({"--jsonl", lines.path});
  EXPECT_EQ(jsonl.code, 0) << jsonl.err;
  EXPECT_THAT(jsonl.out, HasSubstr("\"ids\":[72,105]"));
  EXPECT_THAT(jsonl.out, HasSubstr("error"));
  EXPECT_EQ(run({"--jsonl", lines.path, "--decode"}).code, 2);
}

} // namespace
