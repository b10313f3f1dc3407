#include "model_files/exported_program.h"

#include <gtest/gtest.h>

#include "support/errors.h"

namespace deeplora {
namespace {

using testing::error_of;

ExportedTensor tensor_of_sizes(std::vector<int64_t> sizes, std::vector<int64_t> strides, int64_t offset = 0) {
  ExportedTensor out;
  for (const int64_t size : sizes) out.sizes.push_back({size, {}});
  for (const int64_t stride : strides) out.strides.push_back({stride, {}});
  out.offset = {offset, {}};
  return out;
}

TEST(ExportedProgram, BytesToTheEndOfATensor) {
  EXPECT_EQ(exported_extent(tensor_of_sizes({3, 4}, {4, 1}), 4, "w"), 48U);
  EXPECT_EQ(exported_extent(tensor_of_sizes({3, 4}, {1, 3}, 2), 8, "w"), 112U);  // transposed, from element 2 on
  EXPECT_EQ(exported_extent(tensor_of_sizes({3, 0}, {4, 1}), 4, "w"), 0U);
  EXPECT_EQ(exported_extent(tensor_of_sizes({}, {}), 4, "w"), 4U);
  EXPECT_EQ(exported_extent(tensor_of_sizes({1000, 2}, {0, 1}), 4, "w"), 8U);  // expanded
}

TEST(ExportedProgram, SizesThatNoMemoryHoldsAreRefused) {
  constexpr int64_t kLarge = int64_t{1} << 40;
  for (const auto& tensor : {tensor_of_sizes({kLarge, kLarge}, {kLarge, 1}), tensor_of_sizes({2}, {INT64_MAX}),
                             tensor_of_sizes({2}, {1}, INT64_MAX)})
    EXPECT_NE(error_of([&] { exported_extent(tensor, 8, "w"); }).find("more than memory holds"), std::string::npos);
  EXPECT_NE(error_of([] { exported_extent(tensor_of_sizes({-1}, {1}), 8, "w"); }).find("found -1"), std::string::npos);
  ExportedTensor free = tensor_of_sizes({2}, {1});
  free.sizes[0] = {{}, "s0"};
  EXPECT_NE(error_of([&] { exported_extent(free, 8, "w"); }).find("found a size that is free"), std::string::npos);
}

TEST(ExportedProgram, TablesSayWhereValuesLie) {
  const auto table =
      parse_exported_payloads("table", R"json({"config": {"a.weight": {"path_name": "weight_3", "is_param": true,
    "use_pickle": false, "tensor_meta": {"dtype": 7, "sizes": [{"as_expr": {"expr_str":
    "Symbol('s7', positive=True, integer=True)"}
}, {"as_expr": {"expr_str": "Mul(Integer(2), Symbol('s7'))"}}],
    "strides": [{"as_int": 4}, {"as_int": 1}], "storage_offset": {"as_int": 0}, "device": {"type": "cuda", "index": 1}
}
}
}
})json");
  const ExportedPayload& payload = table.at("a.weight");
  EXPECT_EQ(payload.path, "weight_3");
  EXPECT_TRUE(payload.parameter);
  ASSERT_TRUE(payload.tensor);
  EXPECT_EQ(payload.tensor->sizes[0].expression, "Symbol('s7', positive=True, integer=True)");
  EXPECT_EQ(payload.tensor->sizes[1].expression, "Mul(Integer(2), Symbol('s7'))");
  EXPECT_EQ(payload.tensor->device, "cuda:1");
  EXPECT_NE(error_of([] {
              parse_exported_payloads("table", R"({"config": {"a": {"path_name": 3}}})");
            }).find("table: a: path_name: expected a text"),
            std::string::npos);
}

TEST(ExportedProgram, OtherFormsAreRefusedByTheirVersion) {
  const std::string error = error_of([] {
    ExportedProgram::parse("m.json", R"({"schema_version": {"major": 7, "minor": 1}, "torch_version": "2.5.0"})");
  });
  EXPECT_NE(error.find("in form 7.1, written by PyTorch 2.5.0; expected form 8"), std::string::npos) << error;
}

}  // namespace
}  // namespace deeplora
