//===- SafetensorsTest.cpp - Reading safetensors files ----------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/Safetensors.h"

#include "test/unit/checkpoint/CheckpointBuilder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace retort;
using namespace retort::checkpoint;
using testing::HasSubstr;

namespace {

/// A file's bytes: the length, `header`, and `dataBytes` counting bytes.
std::string makeFile(const std::string &header, size_t dataBytes) {
  std::string out(8, '\0');
  for (int i = 0; i < 8; ++i)
    out[i] = static_cast<char>(header.size() >> (8 * i));
  out += header;
  for (size_t i = 0; i < dataBytes; ++i)
    out += static_cast<char>(i);
  return out;
}

/// A field list of one tensor.
std::string tensor(const std::string &name, const std::string &dtype,
                   const std::string &shape, const std::string &offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

Result<SafetensorsFile> parseText(const std::string &text) {
  return SafetensorsFile::parse(std::as_bytes(std::span(text)), "x");
}

/// The message for a file with that header and that much data; "" if it is
/// accepted.
std::string errorOf(const std::string &header, size_t dataBytes) {
  // Outlives the views, and is exactly as long as the file for the sanitizer.
  std::string text = makeFile(header, dataBytes);
  auto file = parseText(text);
  std::string message = file ? "" : file.status().message();
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  EXPECT_LT(message.size(), 600u);
  return message;
}

TEST(Safetensors, ReadsTensorsAndMetadata) {
  std::string text =
      makeFile("{\"__metadata__\":{\"format\":\"pt\"}," +
                   tensor("b", "F32", "[1,2]", "[3,11]") + "," +
                   tensor("a", "U8", "[3]", "[0,3]") + "," +
                   tensor("scalar", "U8", "[]", "[11,12]") + "," +
                   tensor("empty", "F32", "[2,0]", "[12,12]") + "}   ",
               12);
  auto file = parseText(text);
  ASSERT_TRUE(file.isOk()) << file.status().message();
  EXPECT_EQ(file->metadata().at("format"), "pt");
  ASSERT_EQ(file->tensors().size(), 4u);
  EXPECT_EQ(file->tensors()[0].name, "b");
  const TensorView *b = file->find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, DType::F32);
  EXPECT_EQ(b->shape, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(b->elements(), 2);
  EXPECT_EQ(b->bytes.size(), 8u);
  EXPECT_EQ(b->bytes[0], std::byte{3});
  EXPECT_EQ(static_cast<const void *>(b->bytes.data()),
            text.data() + b->fileOffset);
  EXPECT_EQ(file->find("scalar")->elements(), 1);
  EXPECT_EQ(file->find("empty")->elements(), 0);
  EXPECT_EQ(file->find("c"), nullptr);
}

TEST(Safetensors, EmptyObjectWithoutDataIsAFile) {
  EXPECT_EQ(errorOf("{}", 0), "");
}

TEST(Safetensors, UnknownFieldsAreSkipped) {
  EXPECT_EQ(errorOf(R"({"a":{"dtype":"U8","note":{"x":[1,{"y":[]}]},"n":-1,)"
                    R"("shape":[1],"data_offsets":[0,1],"z":null}})",
                    1),
            "");
}

TEST(Safetensors, FileShorterThanTheLengthIsRefused) {
  for (size_t size = 0; size < 8; ++size) {
    std::string text(size, '\0');
    auto file = parseText(text);
    ASSERT_FALSE(file.isOk());
    EXPECT_EQ(file.status().message(),
              "x: expected a safetensors file of at least 8 bytes, found " +
                  std::to_string(size));
  }
}

TEST(Safetensors, EveryTruncationIsRefused) {
  std::string whole =
      makeFile("{" + tensor("a", "F32", "[2]", "[0,8]") + "}", 8);
  ASSERT_TRUE(parseText(whole).isOk());
  for (size_t size = 0; size < whole.size(); ++size) {
    std::string text = whole.substr(0, size);
    text.shrink_to_fit();
    EXPECT_FALSE(parseText(text).isOk()) << size;
  }
}

TEST(Safetensors, NoFlippedBitMakesAnOutOfRangeTensor) {
  std::string whole = makeFile("{" + tensor("a", "BF16", "[4]", "[0,8]") + "," +
                                   tensor("b", "U8", "[2]", "[8,10]") + "}",
                               10);
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string text = whole;
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
    auto file = parseText(text);
    if (!file)
      continue;
    for (const TensorView &view : file->tensors()) {
      size_t begin =
          reinterpret_cast<const char *>(view.bytes.data()) - text.data();
      EXPECT_LE(begin + view.bytes.size(), text.size());
    }
  }
}

TEST(Safetensors, HeaderPastTheEndIsRefused) {
  std::string text = makeFile("{}", 0);
  text[0] = 3;
  EXPECT_EQ(parseText(text).status().message(),
            "x: header of 3 bytes reaches past the end of the file of 10 "
            "bytes");
}

TEST(Safetensors, HeaderLengthCapIsExact) {
  auto lengthOnly = [](uint64_t length) {
    std::string text(8, '\0');
    for (int i = 0; i < 8; ++i)
      text[i] = static_cast<char>(length >> (8 * i));
    return parseText(text).status().message();
  };
  EXPECT_THAT(lengthOnly(100'000'000), HasSubstr("past the end of the file"));
  EXPECT_EQ(lengthOnly(100'000'001), "x: expected a header of at most "
                                     "100000000 bytes, found 100000001");
  EXPECT_THAT(lengthOnly(UINT64_MAX), HasSubstr("found 18446744073709551615"));
}

TEST(Safetensors, HeaderOfTheLargestSizeIsRead) {
  std::string header = "{" + tensor("a", "U8", "[1]", "[0,1]") + "}";
  header.resize(kMaxSafetensorsHeader, ' ');
  EXPECT_EQ(errorOf(header, 1), "");
}

TEST(Safetensors, HeaderThatIsNoObjectIsRefused) {
  EXPECT_EQ(errorOf("", 0), "x: header: expected '{' at byte offset 8");
  EXPECT_EQ(errorOf("[]", 0), "x: header: expected '{' at byte offset 8");
  EXPECT_EQ(errorOf(" {}", 0), "x: header: expected '{' at byte offset 8");
}

TEST(Safetensors, BrokenJsonIsRefused) {
  EXPECT_THAT(errorOf("{\"a\":", 0), HasSubstr("x: header: parse error"));
  EXPECT_THAT(errorOf("{}}", 0), HasSubstr("parse error"));
  EXPECT_THAT(errorOf(std::string("{}\0", 3), 0), HasSubstr("parse error"));
  EXPECT_THAT(errorOf("{\"\xff\":1}", 0), HasSubstr("parse error"));
}

TEST(Safetensors, DeepJsonIsRefused) {
  std::string deep(1'000'000, '[');
  EXPECT_THAT(errorOf("{\"a\":" + deep, 0),
              HasSubstr("tensor 'a': expected an object, found an array"));
  EXPECT_THAT(errorOf("{\"a\":{\"x\":" + deep, 0),
              HasSubstr("nested at most 32 deep"));
  std::string objects;
  for (int i = 0; i < 100'000; ++i)
    objects += "{\"x\":";
  EXPECT_THAT(errorOf("{\"a\":{\"x\":" + objects, 0),
              HasSubstr("nested at most 32 deep"));
}

TEST(Safetensors, DuplicateTensorNameIsRefused) {
  EXPECT_EQ(errorOf("{" + tensor("a", "U8", "[1]", "[0,1]") + "," +
                        tensor("a", "U8", "[1]", "[1,2]") + "}",
                    2),
            "x: header: tensor 'a': duplicate tensor name");
}

TEST(Safetensors, DuplicateFieldIsRefused) {
  EXPECT_EQ(errorOf(R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],)"
                    R"("data_offsets":[0,1]}})",
                    1),
            "x: header: tensor 'a': dtype: duplicate key 'dtype'");
}

TEST(Safetensors, DuplicateMetadataIsRefused) {
  EXPECT_THAT(errorOf(R"({"__metadata__":{},"__metadata__":{}})", 0),
              HasSubstr("__metadata__: duplicate key"));
  EXPECT_THAT(errorOf(R"({"__metadata__":{"a":"b","a":"c"}})", 0),
              HasSubstr("__metadata__: duplicate key 'a'"));
}

TEST(Safetensors, MetadataThatIsNoStringMapIsRefused) {
  EXPECT_EQ(errorOf(R"({"__metadata__":[]})", 0),
            "x: header: __metadata__: expected an object, found an array");
  EXPECT_EQ(errorOf(R"({"__metadata__":{"a":1}})", 0),
            "x: header: __metadata__: key 'a': expected a string, found 1");
  EXPECT_THAT(errorOf(R"({"__metadata__":{"a":{}}})", 0),
              HasSubstr("found an object"));
}

TEST(Safetensors, TensorThatIsNoObjectIsRefused) {
  EXPECT_EQ(errorOf(R"({"a":7})", 0),
            "x: header: tensor 'a': expected an object, found 7");
}

TEST(Safetensors, MissingFieldsAreRefused) {
  EXPECT_THAT(errorOf(R"({"a":{"shape":[1],"data_offsets":[0,1]}})", 1),
              HasSubstr("tensor 'a': expected a field 'dtype', found none"));
  EXPECT_THAT(errorOf(R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1),
              HasSubstr("expected a field 'shape'"));
  EXPECT_THAT(errorOf(R"({"a":{"dtype":"U8","shape":[1]}})", 1),
              HasSubstr("expected a field 'data_offsets'"));
}

TEST(Safetensors, FieldsOfTheWrongTypeAreRefused) {
  auto withShape = [](const std::string &shape) {
    return errorOf("{" + tensor("a", "U8", shape, "[0,1]") + "}", 1);
  };
  EXPECT_EQ(errorOf(R"({"a":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})", 1),
            "x: header: tensor 'a': dtype: expected a string, found 8");
  EXPECT_EQ(withShape("1"), "x: header: tensor 'a': shape: expected an array "
                            "of integers, found 1");
  EXPECT_EQ(withShape("[-1]"), "x: header: tensor 'a': shape: expected "
                               "non-negative integers, found -1");
  EXPECT_THAT(withShape("[1.0]"), HasSubstr("found 1.0"));
  EXPECT_THAT(withShape("[\"1\"]"), HasSubstr("found the string '1'"));
  EXPECT_THAT(withShape("[[1]]"), HasSubstr("found an array"));
  EXPECT_THAT(withShape("[{}]"), HasSubstr("found an object"));
  EXPECT_THAT(withShape("null"), HasSubstr("found null"));
  EXPECT_THAT(withShape("[9223372036854775808]"), HasSubstr("below 2^63"));
}

TEST(Safetensors, TooManyDimensionsAreRefused) {
  std::string shape = "[1";
  for (int i = 0; i < 40; ++i)
    shape += ",1";
  EXPECT_THAT(errorOf("{" + tensor("a", "U8", shape + "]", "[0,1]") + "}", 1),
              HasSubstr("shape: expected at most 32 integers"));
}

TEST(Safetensors, OffsetsOfTheWrongCountAreRefused) {
  EXPECT_EQ(
      errorOf("{" + tensor("a", "U8", "[1]", "[0]") + "}", 1),
      "x: header: tensor 'a': data_offsets: expected 2 integers, found 1");
  EXPECT_THAT(errorOf("{" + tensor("a", "U8", "[1]", "[0,1,2]") + "}", 1),
              HasSubstr("at most 2 integers"));
}

TEST(Safetensors, UnknownDTypeIsRefused) {
  EXPECT_EQ(errorOf("{" + tensor("a", "F4", "[2]", "[0,1]") + "}", 1),
            "x: tensor 'a': unknown dtype 'F4'");
}

TEST(Safetensors, OffsetsThatEndBeforeTheyBeginAreRefused) {
  EXPECT_EQ(errorOf("{" + tensor("a", "U8", "[4]", "[8,4]") + "}", 8),
            "x: tensor 'a': data_offsets [8, 4] end before they begin");
}

TEST(Safetensors, OffsetsPastTheDataAreRefused) {
  EXPECT_EQ(errorOf("{" + tensor("a", "U8", "[9]", "[0,9]") + "}", 8),
            "x: tensor 'a': data_offsets [0, 9] reach past the 8 bytes of "
            "data");
  EXPECT_THAT(errorOf("{" +
                          tensor("a", "U8", "[1]",
                                 "[9223372036854775806,"
                                 "9223372036854775807]") +
                          "}",
                      8),
              HasSubstr("reach past"));
}

TEST(Safetensors, WrongByteCountIsRefused) {
  EXPECT_EQ(errorOf("{" + tensor("a", "F32", "[2,3]", "[0,20]") + "}", 20),
            "x: tensor 'a': expected 24 bytes for F32 [2, 3], found 20 in "
            "data_offsets [0, 20]");
}

TEST(Safetensors, OverflowingSizesAreRefused) {
  EXPECT_THAT(
      errorOf("{" + tensor("a", "U8", "[4294967296,4294967296]", "[0,0]") + "}",
              0),
      HasSubstr("overflows 64 bits"));
  EXPECT_THAT(
      errorOf("{" + tensor("a", "F64", "[2305843009213693952]", "[0,0]") + "}",
              0),
      HasSubstr("overflows 64 bits"));
}

TEST(Safetensors, OverlappingTensorsAreRefused) {
  EXPECT_EQ(errorOf("{" + tensor("a", "U8", "[4]", "[0,4]") + "," +
                        tensor("b", "U8", "[4]", "[2,6]") + "}",
                    6),
            "x: tensor 'b': data at offset 2 overlaps that of tensor 'a', "
            "which ends at 4");
  EXPECT_THAT(errorOf("{" + tensor("a", "U8", "[4]", "[0,4]") + "," +
                          tensor("b", "U8", "[4]", "[0,4]") + "}",
                      4),
              HasSubstr("overlaps"));
}

TEST(Safetensors, HoleIsRefused) {
  EXPECT_EQ(errorOf("{" + tensor("a", "U8", "[2]", "[0,2]") + "," +
                        tensor("b", "U8", "[2]", "[4,6]") + "}",
                    6),
            "x: tensor 'b': expected data at offset 2, found it at 4, after "
            "bytes of no tensor");
}

TEST(Safetensors, TrailingDataIsRefused) {
  EXPECT_EQ(errorOf("{" + tensor("a", "U8", "[2]", "[0,2]") + "}", 3),
            "x: expected the tensors to cover 3 bytes of data, found them to "
            "end at 2");
  EXPECT_THAT(errorOf("{}", 1), HasSubstr("to cover 1 bytes"));
}

TEST(Safetensors, NamesInMessagesStayOnOneLine) {
  EXPECT_THAT(errorOf(R"({"a\nb\u0000":7})", 0), HasSubstr(R"('a\x0ab\x00')"));
  EXPECT_THAT(errorOf("{\"" + std::string(100'000, 'n') + "\":7}", 0),
              HasSubstr("nn...nn"));
}

TEST(Safetensors, OpenNamesAMissingFile) {
  test::TempDir dir;
  auto file = SafetensorsFile::open(dir.path("none.safetensors"));
  ASSERT_FALSE(file.isOk());
  EXPECT_EQ(file.status().code(), Code::NotFound);
  EXPECT_THAT(file.status().message(), HasSubstr("none.safetensors"));
}

TEST(Safetensors, OpenRefusesAnEmptyFileAndADirectory) {
  test::TempDir dir;
  test::writeText(dir.path("empty"), "");
  EXPECT_FALSE(SafetensorsFile::open(dir.path("empty")).isOk());
  EXPECT_FALSE(SafetensorsFile::open(dir.path()).isOk());
}

TEST(SafetensorsWriter, RoundTripsInPiecesOfAnySize) {
  test::TempDir dir;
  std::string path = dir.path("out.safetensors");
  auto writer = SafetensorsWriter::create(path,
                                          {{"logits", DType::F32, {2, 2}},
                                           {"\"odd\" \n name", DType::I32, {1}},
                                           {"none", DType::F16, {0, 4}}},
                                          {{"by", "test"}});
  ASSERT_TRUE(writer.isOk()) << writer.status().message();
  std::vector<float> logits = {1.0f, 2.0f, 3.0f, 4.0f};
  std::span<const float> all = logits;
  ASSERT_TRUE(writer->append(all.first(1)).isOk());
  EXPECT_FALSE(pathExists(path));
  ASSERT_TRUE(writer->append(all.subspan(1)).isOk());
  int32_t id = 7;
  ASSERT_TRUE(writer->append(std::span<const int32_t>(&id, 1)).isOk());
  EXPECT_EQ(writer->missingBytes(), 0u);
  ASSERT_TRUE(writer->commit().isOk());

  auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file.isOk()) << file.status().message();
  EXPECT_EQ(file->metadata().at("by"), "test");
  const TensorView *view = file->find("logits");
  ASSERT_NE(view, nullptr);
  std::vector<float> read(4);
  ASSERT_TRUE(convertToF32(view->dtype, view->bytes, read).isOk());
  EXPECT_EQ(read, logits);
  EXPECT_EQ(view->fileOffset % 8, 0u);
  ASSERT_NE(file->find("\"odd\" \n name"), nullptr);
  EXPECT_EQ(file->find("none")->shape, (std::vector<int64_t>{0, 4}));
  file->dropResident(*view, 0, 16);
  EXPECT_EQ(view->bytes.size(), 16u);
}

TEST(SafetensorsWriter, TooManyBytesAreRefused) {
  test::TempDir dir;
  auto writer =
      SafetensorsWriter::create(dir.path("o"), {{"a", DType::U8, {3}}});
  ASSERT_TRUE(writer.isOk());
  std::vector<uint8_t> bytes(4);
  EXPECT_THAT(writer->append(std::span<const uint8_t>(bytes)).message(),
              HasSubstr("expected at most 3 more bytes"));
}

TEST(SafetensorsWriter, MissingBytesAreRefusedAndLeaveNoFile) {
  test::TempDir dir;
  {
    auto writer =
        SafetensorsWriter::create(dir.path("o"), {{"a", DType::U8, {3}}});
    ASSERT_TRUE(writer.isOk());
    EXPECT_THAT(writer->commit().message(),
                HasSubstr("3 bytes of tensors are missing"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(SafetensorsWriter, BadDeclarationsAreRefused) {
  test::TempDir dir;
  auto messageOf = [&](std::vector<SafetensorsWriter::Tensor> tensors) {
    return SafetensorsWriter::create(dir.path("o"), tensors).status().message();
  };
  EXPECT_THAT(messageOf({{"a", DType::U8, {1}}, {"a", DType::U8, {1}}}),
              HasSubstr("tensor 'a': the name is taken"));
  EXPECT_THAT(messageOf({{"__metadata__", DType::U8, {1}}}),
              HasSubstr("the name is taken"));
  EXPECT_THAT(messageOf({{"a", DType::U8, {-1}}}), HasSubstr("negative"));
  EXPECT_THAT(messageOf({{"a", DType::U8, {1LL << 40, 1LL << 40}}}),
              HasSubstr("overflows"));
}

TEST(SafetensorsWriter, UnwritablePathIsRefused) {
  EXPECT_EQ(SafetensorsWriter::create("/nonexistent/dir/o", {}).status().code(),
            Code::NotFound);
}

} // namespace
