#include "text/row_errors.h"

#include "core/number_text.h"
#include "core/error.h"

namespace deeplora {

void RowErrors::add(const std::string& source, const std::string& message) {
  ++rows_;
  const auto [same, fresh] = index_.try_emplace(message, mistakes_.size());
  if (fresh) mistakes_.push_back({message, source, source, 0});
  Mistake& mistake = mistakes_[same->second];
  mistake.last = source;
  ++mistake.rows;
}

void RowErrors::add_what(const std::string& source, std::string_view what) {
  if (!source.empty() && what.starts_with(source + ": ")) what.remove_prefix(source.size() + 2);
  add(source, std::string(what));
}

std::string RowErrors::text() const {
  std::vector<std::string> items;
  for (const auto& m : mistakes_) {
    const std::string more = m.rows == 1 ? "" : cat(" (", with_commas(m.rows), " rows, the last ", m.last, ")");
    items.push_back(cat(m.first, ": ", m.message, more));
  }
  return join(items, "; ", 12);
}

void RowErrors::throw_if_any(std::string_view prefix) const {
  if (!empty()) throw Error(cat(prefix, prefix.empty() ? "" : ": ", text()));
}

std::string shortened(std::string text, size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
  return text.substr(0, most) + "...";
}

}  // namespace deeplora
