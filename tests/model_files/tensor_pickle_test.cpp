#include "model_files/tensor_pickle.h"

#include <gtest/gtest.h>

#include "support/errors.h"

namespace deeplora {
namespace {

using testing::error_of;

std::string pickled_number(uint64_t value, size_t width) {
  std::string out;
  for (size_t i = 0; i < width; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}

std::string pickled_text(const std::string& value) { return "X" + pickled_number(value.size(), 4) + value; }

/// As torch.save writes a tensor [2, 3] that begins at number 4 of its storage.
std::string pickled_tensor(const std::string& storage, const std::string& key) {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + pickled_text("storage") + "ctorch\n" + storage + "\n" +
         pickled_text(key) + pickled_text("cuda:1") + "K\x0atQK\x04K\x02K\x03\x86K\x03K\x01\x86\x89" +
         "ccollections\nOrderedDict\n)RtR";
}

std::string pickled_dictionary(const std::string& entries) { return "\x80\x02}(" + entries + "u."; }

TEST(TensorPickle, NamesPlacesAndTypes) {
  const auto found =
      parse_pickled_tensors("w", pickled_dictionary(pickled_text("a.weight") + pickled_tensor("FloatStorage", "0") +
                                                    pickled_text("b") + pickled_tensor("BFloat16Storage", "7")));
  ASSERT_EQ(found.size(), 2U);
  const ExportedPayload& a = found.at("a.weight");
  EXPECT_EQ(a.path, "data/0");
  EXPECT_EQ(a.tensor->dtype, 7);
  EXPECT_EQ(a.tensor->device, "cuda:1");
  EXPECT_EQ(a.tensor->sizes, (std::vector<ExportedSize>{{2, {}}, {3, {}}}));
  EXPECT_EQ(a.tensor->strides, (std::vector<ExportedSize>{{3, {}}, {1, {}}}));
  EXPECT_EQ(a.tensor->offset.fixed, 4);
  EXPECT_EQ(found.at("b").path, "data/7");
  EXPECT_EQ(found.at("b").tensor->dtype, 13);
}

TEST(TensorPickle, ParametersAndOrderedDictionaries) {
  const std::string parameter = "ctorch._utils\n_rebuild_parameter\n(" + pickled_tensor("FloatStorage", "0") + "\x88" +
                                "ccollections\nOrderedDict\n)RtR";
  const std::string state = "}" + pickled_text("_metadata") + "Ns";  // what a state_dict says of its modules' versions
  const auto found = parse_pickled_tensors("w",
                                           "\x80\x02"
                                           "ccollections\nOrderedDict\n)R(" +
                                               pickled_text("p") + parameter + "u" + state + "b.");
  EXPECT_TRUE(found.at("p").parameter);
  const std::string with_state = "ctorch._utils\n_rebuild_parameter_with_state\n(" +
                                 pickled_tensor("FloatStorage", "0") + "\x88" + "ccollections\nOrderedDict\n)R}" +
                                 pickled_text("tag") + "K\x01stR";
  EXPECT_TRUE(parse_pickled_tensors("w", pickled_dictionary(pickled_text("p") + with_state)).at("p").parameter);
}

TEST(TensorPickle, NothingElseIsMade) {
  const std::string call = "cos\nsystem\n(" + pickled_text("true") + "tR";
  EXPECT_NE(error_of([&] {
              parse_pickled_tensors("w", pickled_dictionary(pickled_text("a") + call));
            }).find("asks for os.system"),
            std::string::npos);
  const std::string number = pickled_dictionary(pickled_text("a") + "K\x01");
  EXPECT_NE(error_of([&] { parse_pickled_tensors("w", number); }).find("'a' in its pickle is no tensor"),
            std::string::npos);
  EXPECT_NE(error_of([] { parse_pickled_tensors("w", "\x80\x02\x93."); }).find("an instruction (147)"),
            std::string::npos);
}

TEST(TensorPickle, EveryBeginningIsRefused) {
  const std::string whole = pickled_dictionary(pickled_text("a.weight") + pickled_tensor("FloatStorage", "0"));
  EXPECT_EQ(parse_pickled_tensors("w", whole).size(), 1U);
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(error_of([&] { parse_pickled_tensors("w", std::string_view(whole).substr(0, size)); }).empty());
}

}  // namespace
}  // namespace deeplora
