#include "model_files/own_head.h"

namespace deeplora {

std::optional<OwnHead> own_head_of(const ModelFiles& archive) {
  if (archive.head_beside()) return archive.head_beside();
  if (!archive.export_info().has(kHeadInfo)) return std::nullopt;
  const JsonFile info = archive.export_info().section(kHeadInfo);
  return OwnHead{info.at<std::string>("module"), info.at<std::string>("pooling"), info.value("normalized", false)};
}

bool ends_in_token_head(const ModelFiles& files) {
  if (const auto own = own_head_of(files)) return own->pooling == kNoPooling;
  if (files.export_info().value("task", std::string()) == kTokenClassifier) return true;
  return files.export_info().root.empty() && has_token_head(files.config());  // what made an archive says it better
}

}  // namespace deeplora
