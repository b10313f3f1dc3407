#include "core/csv_text.h"

#include <charconv>
#include <cmath>

namespace deeplora {

std::string csv_field(std::string_view text) {
  if (text.find_first_of(",\"\n\r") == std::string_view::npos) return std::string(text);
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string csv_line(const std::vector<std::string>& fields) {
  std::string out;
  for (size_t i = 0; i < fields.size(); ++i) out += (i ? "," : "") + csv_field(fields[i]);
  return out + "\n";
}

std::string csv_number(double value) {
  if (!std::isfinite(value)) return "";
  char text[40];
  const auto [end, failed] = std::to_chars(text, text + sizeof(text), value);
  return failed == std::errc() ? std::string(text, end) : "";
}

}  // namespace deeplora
