// Oracle: the tensors that rows were written from.
#include "tasks/row_tensors.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/tiny_archive.h"

namespace deeplora {
namespace {

using testing::error_of;
using Json = nlohmann::ordered_json;

/// Nested lists of a tensor's values.
Json lists_of(const torch::Tensor& t) {
  if (t.dim() == 0) {
    if (t.scalar_type() == torch::kBool) return t.item<bool>();
    if (t.scalar_type() == torch::kInt64) return t.item<int64_t>();
    return t.item<double>();
  }
  Json out = Json::array();
  for (int64_t i = 0; i < t.size(0); ++i) out.push_back(lists_of(t[i]));
  return out;
}

std::vector<Row> rows_of(const std::map<std::string, torch::Tensor>& tensors) {
  std::vector<Row> rows;
  for (int64_t i = 0; i < tensors.begin()->second.size(0); ++i) {
    Row row{cat("rows.jsonl:", i + 1), {}};
    for (const auto& [name, tensor] : tensors) row.fields[name] = lists_of(tensor[i]);
    rows.push_back(std::move(row));
  }
  return rows;
}

TEST(RowTensorsTest, RowsGiveTheTensorsThatTheyWereWrittenFrom) {
  torch::manual_seed(3);
  for (int round = 0; round < 20; ++round) {
    const int64_t count = 1 + round % 4;
    const std::map<std::string, torch::Tensor> given{
        {"flags", torch::rand({count, 2}) < 0.5},
        {"ids", torch::randint(-9, 100, {count, 3, 2}, torch::kInt64)},
        {"image", torch::randn({count, 1, 2 + round % 3, 4}, torch::kFloat64)},
        {"number", torch::randn({count}, torch::kFloat64)}};
    const auto rows = rows_of(given);
    RowTensors tensors;
    tensors.use({"flags", "ids", "image", "number"}, false);
    tensors.fit(rows);
    ASSERT_EQ(tensors.inputs().size(), 4);
    EXPECT_EQ(tensors.inputs()[0].dtype, torch::kBool);
    EXPECT_EQ(tensors.inputs()[1].dtype, torch::kInt64);
    auto inputs = tensors.inputs();
    inputs[2].dtype = inputs[3].dtype = torch::kFloat64;
    tensors.set_inputs(inputs);
    EXPECT_EQ(inputs[1].least, given.at("ids").min().item<double>());
    EXPECT_EQ(inputs[1].most, given.at("ids").max().item<double>());
    std::vector<Example> examples(rows.size());
    std::vector<const Example*> all;
    for (size_t i = 0; i < rows.size(); ++i) {
      examples[i].tensors = tensors.read(rows[i]);
      all.push_back(&examples[i]);
    }
    for (const auto& [name, tensor] : tensors.collate(all)) EXPECT_TRUE(torch::equal(tensor, given.at(name))) << name;

    Json state;
    tensors.add_to(state);
    RowTensors again;
    again.use({"flags", "ids", "image", "number"}, false);
    again.restore({"task.json", Json::parse(state.dump())});
    EXPECT_EQ(again.inputs(), tensors.inputs());
  }
}

TEST(RowTensorsTest, ANumberWithAFractionMakesAFieldOneOfNumbers) {
  RowTensors tensors;
  tensors.use({"x"}, false);
  tensors.fit(std::vector<Row>{{"r:1", {{"x", {1, 2}}}}, {"r:2", {{"x", {true, 2.5}}}}, {"r:3", {{"x", "[3, -4]"}}}});
  EXPECT_EQ(tensors.inputs(), (std::vector<TensorInput>{{"x", {2}, torch::kFloat32, -4, 3}}));
  EXPECT_EQ(tensors_shown(tensors.inputs()), "x [2] float32");
}

TEST(RowTensorsTest, RowsThatDifferAreNamedAndTheSameMistakeIsSaidOnce) {
  RowTensors tensors;
  tensors.use({"x"}, false);
  const std::vector<Row> rows{
      {"r:1", {{"x", {1, 2}}}}, {"r:2", {{"x", {1}}}}, {"r:3", {{"x", {3}}}}, {"r:4", {{"y", 1}}}};
  const std::string said = error_of([&] { tensors.fit(rows); });
  EXPECT_NE(said.find("r:2: x: expected [2] as in the first training row, found [1] (2 rows, the last r:3)"),
            std::string::npos)
      << said;
  EXPECT_NE(said.find("r:4: no field 'x'"), std::string::npos) << said;
  for (const char* value :
       {"[]", "[[1], 2]", "[1, [2]]", "[[1, 2], [3]]", "[null]", "[\"1\"]", "{\"a\": 1}", "null", "[9007199254740993]"})
    EXPECT_NE(error_of([&] { tensors.fit(std::vector<Row>{{"r:1", {{"x", Json::parse(value)}}}}); }).find("r:1: x"),
              std::string::npos)
        << value;
}

TEST(RowTensorsTest, NumbersThatADtypeCannotHoldAreNamed) {
  RowTensors tensors;
  tensors.use({"x"}, false);
  for (const auto& [dtype, value] : {std::pair(torch::kBool, 2.0), {torch::kInt64, 0.5}, {torch::kInt32, 3e9}}) {
    tensors.set_inputs({{"x", {}, dtype, 0, 1}});
    EXPECT_NE(error_of([&] { tensors.read({"r:7", {{"x", value}}}); }).find("r:7: x: expected"), std::string::npos);
  }
}

TEST(RowTensorsTest, AStateOfOtherFieldsIsRefused) {
  RowTensors tensors;
  tensors.use({"x"}, false);
  const auto said = [&](const char* state) {
    return error_of([&] { tensors.restore({"task.json", Json::parse(state)}); });
  };
  EXPECT_NE(said("{}").find("it was trained on rows with none, but the model takes x"), std::string::npos);
  EXPECT_NE(said(R"({"tensors": 3})").find("tensors: expected a list"), std::string::npos);
  EXPECT_NE(said(R"({"tensors": [{"name": "x", "shape": [0], "dtype": "int64", "least": 0, "most": 1}]})")
                .find("tensors[0]: shape: expected sizes from 1"),
            std::string::npos);
  EXPECT_NE(said(R"({"tensors": [{"name": "x", "shape": [1], "dtype": "complex", "least": 0, "most": 1}]})")
                .find("tensors[0]: dtype: 'complex' is none"),
            std::string::npos);
}

}  // namespace
}  // namespace deeplora
