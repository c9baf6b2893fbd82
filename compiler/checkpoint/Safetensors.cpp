//===- Safetensors.cpp - Reading safetensors files --------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/checkpoint/Safetensors.h"

#include "compiler/checkpoint/Json.h"
#include "runtime/support/CheckedMath.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <unordered_set>

namespace retort::checkpoint {
namespace {

using nlohmann::json;

/// Far more than any tensor has; keeps a hostile header from making one of a
/// million ones.
constexpr size_t kMaxRank = 32;
constexpr size_t kMaxDepth = 32;
constexpr std::string_view kMetadataKey = "__metadata__";

/// A tensor as the header describes it, before validation.
struct Entry {
  std::string name;
  std::optional<std::string> dtype;
  std::optional<std::vector<int64_t>> shape;
  std::optional<std::vector<int64_t>> offsets;
};

/// Reads the header without building a document, because it may be large:
/// `{"<tensor>": {"dtype": s, "shape": [n..], "data_offsets": [n, n]}, ...}`
/// with `"__metadata__": {s: s}`. Unknown fields of a tensor are skipped, as
/// the reference library does.
class HeaderReader : public nlohmann::json_sax<json> {
public:
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;
  std::string error;

  bool null() override { return scalar("null"); }
  bool boolean(bool b) override { return scalar(b ? "true" : "false"); }
  bool number_float(number_float_t, const string_t &text) override {
    return scalar(text);
  }
  bool number_integer(number_integer_t n) override {
    return scalar(std::to_string(n));
  }
  bool number_unsigned(number_unsigned_t n) override {
    if (!list)
      return scalar(std::to_string(n));
    if (n > static_cast<uint64_t>(INT64_MAX))
      return fail("expected integers below 2^63, found " + std::to_string(n));
    size_t most = field == "shape" ? kMaxRank : 2;
    if (list->size() == most)
      return fail("expected at most " + std::to_string(most) +
                  " integers, found more");
    list->push_back(static_cast<int64_t>(n));
    return true;
  }
  bool binary(binary_t &) override { return scalar("binary data"); }

  bool string(string_t &text) override {
    if (place == Place::Metadata) {
      metadata[field] = std::move(text);
      return true;
    }
    if (place == Place::Tensor && field == "dtype") {
      entries.back().dtype = std::move(text);
      return true;
    }
    return scalar("the string " + quote(text));
  }

  bool key(string_t &name) override {
    if (skipped > 0)
      return true;
    if (place == Place::Root) {
      if (!names.insert(name).second)
        return fail(name == kMetadataKey ? "duplicate key"
                                         : "duplicate tensor name",
                    name);
      field = std::move(name);
      if (field != kMetadataKey)
        entries.push_back({field, {}, {}, {}});
      return true;
    }
    if (!fields.insert(name).second)
      return fail("duplicate key " + quote(name));
    field = std::move(name);
    return true;
  }

  bool start_object(size_t) override {
    if (skipped > 0 || isUnknownField())
      return skip();
    fields.clear();
    if (place == Place::Start) {
      place = Place::Root;
      return true;
    }
    if (place == Place::Root) {
      place = field == kMetadataKey ? Place::Metadata : Place::Tensor;
      return true;
    }
    return scalar("an object");
  }

  bool end_object() override {
    if (skipped > 0) {
      --skipped;
      return true;
    }
    if (place == Place::Tensor && !isComplete(entries.back()))
      return false;
    place = Place::Root;
    return true;
  }

  bool start_array(size_t) override {
    if (skipped > 0 || isUnknownField())
      return skip();
    if (place != Place::Tensor || list || field == "dtype")
      return scalar("an array");
    auto &target =
        field == "shape" ? entries.back().shape : entries.back().offsets;
    list = &target.emplace();
    return true;
  }

  bool end_array() override {
    if (skipped > 0)
      --skipped;
    else
      list = nullptr;
    return true;
  }

  bool parse_error(size_t, const std::string &,
                   const json::exception &e) override {
    error = "header: " + describeJsonError(e);
    return false;
  }

private:
  enum class Place { Start, Root, Metadata, Tensor };

  bool isUnknownField() const {
    return place == Place::Tensor && field != "dtype" && field != "shape" &&
           field != "data_offsets";
  }

  bool skip() {
    if (++skipped <= kMaxDepth)
      return true;
    return fail("expected JSON nested at most " + std::to_string(kMaxDepth) +
                " deep, found deeper nesting");
  }

  /// A value that is none of those with a place of their own.
  bool scalar(const std::string &found) {
    if (skipped > 0 || isUnknownField())
      return true;
    switch (place) {
    case Place::Start:
      return fail("expected an object, found " + found);
    case Place::Root:
      return fail("expected an object, found " + found);
    case Place::Metadata:
      return fail("key " + quote(field) + ": expected a string, found " +
                  found);
    case Place::Tensor:
      break;
    }
    return fail(std::string("expected ") +
                (field == "dtype" ? "a string"
                 : list           ? "non-negative integers"
                                  : "an array of integers") +
                ", found " + found);
  }

  bool isComplete(const Entry &entry) {
    const char *missing = !entry.dtype     ? "dtype"
                          : !entry.shape   ? "shape"
                          : !entry.offsets ? "data_offsets"
                                           : nullptr;
    field.clear();
    if (missing)
      return fail("expected a field '" + std::string(missing) +
                  "', found none");
    if (entry.offsets->size() != 2) {
      field = "data_offsets";
      return fail("expected 2 integers, found " +
                  std::to_string(entry.offsets->size()));
    }
    return true;
  }

  /// Fails with a message that says where the reader is.
  bool fail(const std::string &message, std::string_view name = {}) {
    error = "header: ";
    if (place == Place::Metadata || name == kMetadataKey ||
        (place == Place::Root && field == kMetadataKey && name.empty()))
      error += std::string(kMetadataKey) + ": ";
    else if (!name.empty())
      error += "tensor " + quote(name) + ": ";
    else if (place != Place::Start && !entries.empty())
      error += "tensor " + quote(entries.back().name) + ": ";
    if (place == Place::Tensor &&
        (field == "dtype" || field == "shape" || field == "data_offsets"))
      error += field + ": ";
    error += message;
    return false;
  }

  Place place = Place::Start;
  std::unordered_set<std::string> names;  ///< keys of the root
  std::unordered_set<std::string> fields; ///< keys of the object inside it
  std::string field;                      ///< the key last read
  std::vector<int64_t> *list = nullptr;   ///< the open array of integers
  size_t skipped = 0; ///< open containers inside an unknown field
};

Status invalid(std::string message) {
  return Status::error(Code::InvalidData, std::move(message));
}

std::string formatOffsets(int64_t begin, int64_t end) {
  return "data_offsets [" + std::to_string(begin) + ", " + std::to_string(end) +
         "]";
}

/// Checks one entry by itself and makes its view. `data` is what follows the
/// header, `dataOffset` its place in the file.
Result<TensorView> makeView(Entry &entry, std::span<const std::byte> data,
                            uint64_t dataOffset) {
  std::optional<DType> dtype = parseDType(*entry.dtype);
  if (!dtype)
    return Status::error(Code::Unsupported,
                         "unknown dtype " + quote(*entry.dtype));
  int64_t begin = (*entry.offsets)[0], end = (*entry.offsets)[1];
  if (begin > end)
    return invalid(formatOffsets(begin, end) + " end before they begin");
  if (static_cast<uint64_t>(end) > data.size())
    return invalid(formatOffsets(begin, end) + " reach past the " +
                   std::to_string(data.size()) + " bytes of data");
  std::optional<int64_t> count =
      checkedProduct(std::span<const int64_t>(*entry.shape));
  std::optional<int64_t> bytes =
      count ? checkedMul(*count, static_cast<int64_t>(dtypeBytes(*dtype)))
            : std::nullopt;
  std::string described = *entry.dtype + " " + formatShape(*entry.shape);
  if (!bytes)
    return invalid("the size of " + described + " overflows 64 bits");
  if (*bytes != end - begin)
    return invalid("expected " + std::to_string(*bytes) + " bytes for " +
                   described + ", found " + std::to_string(end - begin) +
                   " in " + formatOffsets(begin, end));
  TensorView view;
  view.name = std::move(entry.name);
  view.dtype = *dtype;
  view.shape = std::move(*entry.shape);
  view.bytes = data.subspan(begin, *bytes);
  view.fileOffset = dataOffset + begin;
  return view;
}

/// Checks that the tensors lie one after the other and cover all data.
Status checkCoverage(const std::vector<TensorView> &views, uint64_t dataOffset,
                     uint64_t fileSize) {
  std::vector<size_t> order(views.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::pair(views[a].fileOffset, views[a].bytes.size()) <
           std::pair(views[b].fileOffset, views[b].bytes.size());
  });
  uint64_t position = dataOffset;
  const TensorView *previous = nullptr;
  for (size_t i : order) {
    const TensorView &view = views[i];
    std::string where = "tensor " + quote(view.name) + ": ";
    uint64_t begin = view.fileOffset - dataOffset;
    if (view.fileOffset < position)
      return invalid(where + "data at offset " + std::to_string(begin) +
                     " overlaps that of tensor " + quote(previous->name) +
                     ", which ends at " +
                     std::to_string(position - dataOffset));
    if (view.fileOffset > position)
      return invalid(where + "expected data at offset " +
                     std::to_string(position - dataOffset) + ", found it at " +
                     std::to_string(begin) + ", after bytes of no tensor");
    position += view.bytes.size();
    previous = &view;
  }
  if (position != fileSize)
    return invalid("expected the tensors to cover " +
                   std::to_string(fileSize - dataOffset) +
                   " bytes of data, found them to end at " +
                   std::to_string(position - dataOffset));
  return Status::ok();
}

/// The header's text, after the checks that need no JSON.
Result<std::string_view> findHeader(std::span<const std::byte> bytes) {
  if (bytes.size() < 8)
    return invalid("expected a safetensors file of at least 8 bytes, found " +
                   std::to_string(bytes.size()));
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i)
    length = length << 8 | static_cast<uint64_t>(bytes[i]);
  if (length > kMaxSafetensorsHeader)
    return invalid("expected a header of at most " +
                   std::to_string(kMaxSafetensorsHeader) + " bytes, found " +
                   std::to_string(length));
  if (length > bytes.size() - 8)
    return invalid("header of " + std::to_string(length) +
                   " bytes reaches past the end of the file of " +
                   std::to_string(bytes.size()) + " bytes");
  std::string_view header(reinterpret_cast<const char *>(bytes.data()) + 8,
                          length);
  if (!header.starts_with('{'))
    return invalid("header: expected '{' at byte offset 8");
  return header;
}

} // namespace

std::string formatShape(std::span<const int64_t> shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

Result<SafetensorsFile> SafetensorsFile::parse(std::span<const std::byte> bytes,
                                               std::string name) {
  SafetensorsFile file;
  file.filePath = std::make_unique<std::string>(std::move(name));
  Status status = file.readHeader(bytes);
  if (!status.isOk())
    return std::move(status).withContext(*file.filePath);
  return file;
}

Status SafetensorsFile::readHeader(std::span<const std::byte> bytes) {
  RETORT_ASSIGN_OR_RETURN(std::string_view header, findHeader(bytes));
  if (Status nul = refuseNul(header); !nul.isOk())
    return std::move(nul).withContext("header");
  HeaderReader reader;
  if (!json::sax_parse(header.begin(), header.end(), &reader))
    return invalid(std::move(reader.error));
  meta = std::move(reader.metadata);
  uint64_t dataOffset = 8 + header.size();
  views.reserve(reader.entries.size());
  for (Entry &entry : reader.entries) {
    std::string entryName = entry.name;
    auto view = makeView(entry, bytes.subspan(dataOffset), dataOffset);
    if (!view)
      return view.takeStatus().withContext("tensor " + quote(entryName));
    view->file = *filePath;
    views.push_back(std::move(*view));
  }
  RETORT_RETURN_IF_ERROR(checkCoverage(views, dataOffset, bytes.size()));
  for (size_t i = 0; i < views.size(); ++i)
    byName.emplace(views[i].name, i);
  return Status::ok();
}

Result<SafetensorsFile> SafetensorsFile::open(const std::string &path) {
  RETORT_ASSIGN_OR_RETURN(MappedFile mapping, MappedFile::open(path));
  RETORT_ASSIGN_OR_RETURN(SafetensorsFile file, parse(mapping.bytes(), path));
  file.mapping = std::move(mapping);
  return file;
}

const TensorView *SafetensorsFile::find(std::string_view name) const {
  auto it = byName.find(name);
  return it == byName.end() ? nullptr : &views[it->second];
}

void SafetensorsFile::dropResident(const TensorView &tensor, uint64_t begin,
                                   uint64_t size) const {
  begin = std::min<uint64_t>(begin, tensor.bytes.size());
  size = std::min<uint64_t>(size, tensor.bytes.size() - begin);
  mapping.dropResident(tensor.fileOffset + begin, size);
}

} // namespace retort::checkpoint
