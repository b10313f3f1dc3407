#include "train/checkpoint_numbers.h"

#include "core/fingerprint.h"

namespace deeplora {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kVersion = 1;

}  // namespace

std::string CheckpointNumbers::text() const {
  const Json content = {{"version", kVersion},
                        {"state", to_json(state)},
                        {"identity", identity},
                        {"movement", movement},
                        {"files", files}};
  const Json whole = {{"content", content}, {"checksum", fingerprint(content.dump())}};
  return whole.dump(1) + "\n";
}

CheckpointNumbers CheckpointNumbers::parse(const std::string& file, std::string_view text) {
  const auto whole = OrderedJsonFile::parse(file, text);
  const OrderedJsonFile content = whole.section("content");
  check(whole.at<std::string>("checksum") == fingerprint(content.root.dump()), file,
        " is damaged: its checksum is wrong");
  const auto version = content.value("version", int64_t{0});
  check(version == kVersion, file, ": checkpoint version ", version, ", expected ", kVersion,
        "; finish the run with the program that began it");
  CheckpointNumbers out;
  out.state = train_state_from({content.name + ": state", json_member(content.root, "state", content.name)});
  out.identity = content.section("identity").root;
  out.movement = content.value("movement", std::map<std::string, std::string>());
  out.files = content.at<std::map<std::string, std::string>>("files");
  return out;
}

}  // namespace deeplora
