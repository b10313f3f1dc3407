// deeplora_template: a JSON line {"template", "variables", "date"?} in, a JSON line {"text", "generations"} or
// {"error"} out. Lets a test in another language compare templates with a reference.
#include <iostream>
#include <nlohmann/json.hpp>

#include "template/template.h"

namespace {

using Json = nlohmann::ordered_json;
using namespace deeplora;

Json rendered(const Json& row) {
  try {
    const auto made = jinja::Template::parse(row.at("template").get<std::string>());
    jinja::Variables variables;
    for (const auto& [name, value] : row.at("variables").items())
      variables.emplace_back(name, jinja::Value::from_json(value));
    const auto out =
        made.render(variables, row.contains("date") ? jinja::clock_of(row["date"].get<std::string>()) : jinja::Clock());
    return {{"text", out.text}, {"generations", out.generations}};
  } catch (const Error& e) {
    return {{"error", e.what()}};
  }
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);)
    std::cout << rendered(Json::parse(line)).dump(-1, ' ', true, Json::error_handler_t::replace) << "\n";
  return 0;
}
