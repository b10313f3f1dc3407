#include "template/template.h"

#include <ctime>

#include "template/parser.h"
#include "template/scopes.h"

namespace deeplora::jinja {

Template Template::parse(std::string_view source, std::string name) {
  Template out;
  out.name_ = std::move(name);
  constexpr size_t kLongest = 1 << 20;
  check(source.size() <= kLongest, out.name_, ": a template of ", source.size(), " bytes; at most ", kLongest,
        " are supported");
  try {
    auto tree = std::make_shared<SyntaxTree>(parse_template(source));
    resolve_scopes(*tree);
    out.tree_ = std::move(tree);
  } catch (const Error& e) {
    fail(out.name_, ", ", e.what());
  }
  return out;
}

Rendering Template::render(const Variables& variables, const Clock& clock) const {
  try {
    return run_template(*tree_, variables, clock);
  } catch (const Error& e) {
    fail(name_, ", ", e.what());
  }
}

Clock clock_of(const std::string& date) {
  std::tm day{};
  char rest = 0;
  const bool fits = date.size() == 10 &&
                    std::sscanf(date.c_str(), "%4d-%2d-%2d%c", &day.tm_year, &day.tm_mon, &day.tm_mday, &rest) == 3;
  check(fits, "expected a date YYYY-MM-DD, found '", date, "'");
  day.tm_year -= 1900;
  day.tm_mon -= 1;
  const std::tm given = day;
  timegm(&day);  // works out the day of the week; another day when there is no such one
  check(day.tm_mday == given.tm_mday && day.tm_mon == given.tm_mon, "there is no day ", date);
  return [day](const std::string& format) {
    std::string out;
    for (size_t i = 0; i < format.size(); ++i) {
      if (format[i] != '%' || i + 1 == format.size()) {
        out += format[i];
        continue;
      }
      const std::string one = format.substr(i, format[i + 1] == '-' && i + 2 < format.size() ? 3 : 2);
      static const std::string_view kKnown = "aAbBdHIjmMpSyYFT%e";
      check(kKnown.find(one.back()) != std::string_view::npos, "strftime_now: the format ", one, " is not supported");
      char buffer[64];
      const size_t written = std::strftime(buffer, sizeof buffer, one.c_str(), &day);
      out.append(buffer, written);
      i += one.size() - 1;
    }
    return out;
  };
}

}  // namespace deeplora::jinja
