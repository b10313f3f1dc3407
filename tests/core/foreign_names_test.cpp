#include "core/foreign_names.h"

#include <gtest/gtest.h>

#include "core/config.h"
#include "support/errors.h"

namespace deeplora {
namespace {

using testing::error_of;

TEST(ForeignNames, OptionsOfOtherTrainersHaveAKeyHere) {
  for (const auto& [name, key] :
       {std::pair("learning_rate", "train.lr"), std::pair("--learning-rate", "train.lr"),
        std::pair("max_steps", "train.steps"), std::pair("num_epochs", "train.epochs"),
        std::pair("num_train_epochs", "train.epochs"), std::pair("lora_r", "adapter.rank"),
        std::pair("r", "adapter.rank"), std::pair("lora_alpha", "adapter.alpha"),
        std::pair("lora_dropout", "adapter.dropout"), std::pair("target_modules", "adapter.targets"),
        std::pair("per_device_train_batch_size", "train.batch_size"),
        std::pair("gradient_accumulation_steps", "train.accumulate"), std::pair("max_seq_length", "data.max_length"),
        std::pair("warmup_ratio", "train.warmup"), std::pair("weight_decay", "train.weight_decay")})
    EXPECT_EQ(key_meant_by(name), key) << name;
  EXPECT_EQ(key_meant_by("frobnicate"), "");
  EXPECT_EQ(key_meant_by(""), "");
  EXPECT_EQ(key_meant_by("--"), "");
}

TEST(ForeignNames, AnUnknownKeyNamesTheOneThatIsMeantWhereverItStands) {
  Config config = Config::parse("{learning_rate: 1, train: {num_epochs: 3}, completion: {learning_rate: 2}}");
  double lr = 0, epochs = 0, rate = 0;
  config.section("train").read("lr", lr, "");
  config.section("train").read("epochs", epochs, "");
  config.section("completion").read("lr", rate, "");
  const std::string message = error_of([&] { config.finish(); });
  EXPECT_NE(message.find("configuration:1: learning_rate: unknown key (did you mean 'train.lr'?)"), std::string::npos)
      << message;
  EXPECT_NE(message.find("train.num_epochs: unknown key (did you mean 'train.epochs'?)"), std::string::npos) << message;
}

TEST(ForeignNames, AKeyThatThisConfigurationDoesNotHaveIsNotSuggested) {
  Config config = Config::parse("completion: {learning_rate: 2}");
  double rate = 0;
  config.section("completion").read("lr", rate, "");
  const std::string message = error_of([&] { config.finish(); });
  EXPECT_NE(message.find("(did you mean 'completion.lr'?)"), std::string::npos) << message;
}

}  // namespace
}  // namespace deeplora
