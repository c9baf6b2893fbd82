//===- WeightPlan.cpp - An encoding for each matrix -------------*- C++ -*-===//
//
// Part of Retort, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "compiler/quantize/WeightPlan.h"

#include "compiler/checkpoint/Json.h"
#include "compiler/quantize/Passes.h"
#include "compiler/quantize/WeightClasses.h"
#include "dialects/Encoding/Encoding.h"

#include <algorithm>
#include <set>

using namespace mlir;

namespace retort {
namespace {

using checkpoint::describeJson;
using checkpoint::quote;
using nlohmann::json;

constexpr const char *kFormat = "retort-weight-plan";
constexpr int kVersion = 1;
constexpr const char *kKeep = "keep";

Status bad(const std::string &where, const std::string &expected,
           const std::string &found) {
  return Status::error(Code::InvalidData,
                       where + ": expected " + expected + ", found " + found);
}

/// Whatever an object has beside what is read would be silently ignored.
Status refuseOthers(const json &object, const std::string &where,
                    std::initializer_list<std::string_view> known) {
  for (const auto &[key, value] : object.items())
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      std::string names;
      for (std::string_view name : known)
        names += (names.empty() ? "" : ", ") + std::string(name);
      return bad(where, "no fields but " + names, quote(key));
    }
  return Status::ok();
}

Result<PlannedWeight> parseEntry(const json &entry, size_t number) {
  std::string where = "weight " + std::to_string(number);
  if (!entry.is_object())
    return bad(where, "an object", describeJson(entry));
  RETORT_RETURN_IF_ERROR(refuseOthers(entry, where, {"tensor", "encoding"}));
  auto field = [&](const char *name) -> Result<std::string> {
    auto it = entry.find(name);
    if (it == entry.end())
      return bad(where, std::string("a field '") + name + "'", "none");
    if (!it->is_string())
      return bad(where + ": " + name, "a string", describeJson(*it));
    return it->get<std::string>();
  };
  PlannedWeight weight;
  RETORT_ASSIGN_OR_RETURN(weight.tensor, field("tensor"));
  RETORT_ASSIGN_OR_RETURN(std::string encoding, field("encoding"));
  if (encoding == kKeep)
    return weight;
  weight.encoding = PackedEncoding::parse(encoding);
  if (!weight.encoding)
    return bad("tensor " + quote(weight.tensor),
               "an encoding such as keep, bf16, int8<32> or int4<64, "
               "zero_points>, with groups of 32, 64 or 128",
               quote(encoding));
  return weight;
}

/// Whether the packer can make this encoding from a matrix of any type.
bool isMade(const PackedEncoding &encoding) {
  return encoding.kind != EncodingKind::Fp8 &&
         encoding.scales == ScaleKind::BF16;
}

} // namespace

bool WeightPlan::isExact() const {
  return std::all_of(weights.begin(), weights.end(), [](const auto &weight) {
    return !weight.encoding || weight.encoding->kind == EncodingKind::F32;
  });
}

std::string encodingName(const std::optional<PackedEncoding> &encoding) {
  return encoding ? encoding->str() : kKeep;
}

Result<WeightPlan> parseWeightPlan(std::string_view text) {
  RETORT_ASSIGN_OR_RETURN(json root, checkpoint::parseJson(text));
  if (!root.is_object())
    return bad("weight plan", "an object", describeJson(root));
  if (auto it = root.find("format"); it == root.end() || *it != kFormat)
    return bad("format", quote(kFormat),
               it == root.end() ? "none" : describeJson(*it));
  if (auto it = root.find("version");
      it == root.end() || !it->is_number_integer() || *it != kVersion)
    return bad("version", std::to_string(kVersion),
               it == root.end() ? "none" : describeJson(*it));
  RETORT_RETURN_IF_ERROR(refuseOthers(
      root, "weight plan", {"format", "version", "note", "weights"}));
  WeightPlan plan;
  if (auto it = root.find("note"); it != root.end()) {
    if (!it->is_string())
      return bad("note", "a string", describeJson(*it));
    plan.note = it->get<std::string>();
  }
  auto weights = root.find("weights");
  if (weights == root.end() || !weights->is_array())
    return bad("weights", "an array",
               weights == root.end() ? "none" : describeJson(*weights));
  std::set<std::string, std::less<>> known;
  for (const json &entry : *weights) {
    RETORT_ASSIGN_OR_RETURN(PlannedWeight weight,
                            parseEntry(entry, plan.weights.size()));
    if (!known.insert(weight.tensor).second)
      return bad("tensor " + quote(weight.tensor), "one entry", "two");
    plan.weights.push_back(std::move(weight));
  }
  return plan;
}

std::string formatWeightPlan(const WeightPlan &plan) {
  auto text = [](const std::string &value) {
    return json(value).dump(-1, ' ', false, json::error_handler_t::replace);
  };
  std::string out = "{\n  \"format\": " + text(kFormat) +
                    ",\n  \"version\": " + std::to_string(kVersion) + ",\n";
  if (!plan.note.empty())
    out += "  \"note\": " + text(plan.note) + ",\n";
  out += "  \"weights\": [";
  for (const PlannedWeight &weight : plan.weights)
    out += std::string(&weight == plan.weights.data() ? "\n" : ",\n") +
           "    {\"tensor\": " + text(weight.tensor) +
           ", \"encoding\": " + text(encodingName(weight.encoding)) + "}";
  return out + "\n  ]\n}\n";
}

Status applyWeightPlan(ModuleOp module, const WeightPlan &plan) {
  SymbolTable symbols(module);
  auto classes = classifyWeights(module);
  auto fail = [](llvm::StringRef tensor, const std::string &message) {
    return Status::error(Code::InvalidArgument,
                         "tensor " + quote(std::string_view(tensor)) + ": " +
                             message);
  };
  llvm::DenseSet<Operation *> planned;
  for (const PlannedWeight &weight : plan.weights) {
    Operation *op = symbols.lookup(weight.tensor);
    auto uses = classes.find(op);
    if (!op || uses == classes.end())
      return fail(weight.tensor, "expected a matrix of the model, which has "
                                 "none of that name");
    if (uses->second.isRouter)
      return fail(weight.tensor, "expected no entry, since a router is never "
                                 "made less exact than the checkpoint has it");
    planned.insert(op);
    auto kept = op->getAttrOfType<encoding::PackedAttr>(kKeptEncodingAttr);
    if (!weight.encoding || (kept && kept.getEncoding() == *weight.encoding))
      continue;
    auto element = cast<RankedTensorType>(cast<model::WeightOp>(op).getType())
                       .getElementType();
    if (weight.encoding->kind == EncodingKind::Fp8 &&
        isa<Float8E4M3FNType>(element))
      continue;
    if (!isMade(*weight.encoding))
      return fail(weight.tensor,
                  "expected an encoding that can be made of it, found " +
                      weight.encoding->str() +
                      ", which only holds what a checkpoint has so");
    op->setAttr(
        kPlannedEncodingAttr,
        encoding::PackedAttr::get(module.getContext(), *weight.encoding));
  }
  for (const auto &[op, uses] : classes)
    if (!uses.isRouter && !planned.contains(op))
      return fail(cast<model::WeightOp>(op).getSymName(),
                  "expected an entry in the weight plan, found none");
  return Status::ok();
}

} // namespace retort
