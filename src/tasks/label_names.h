// Names of classes as data files spell them. Free of LibTorch.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// Without white space at both ends.
std::string_view without_blanks(std::string_view text);

/// A decimal number in a form that is the same for all its spellings ("1", "1.0", "10e-1": "1e0"), exact for any number
/// of digits. Absent for anything else, and for numbers with zeros in front ("007"), which are codes.
std::optional<std::string> number_form(std::string_view text);

/// The labels of a classification, in the order of the classes: numbers by their value where all are numbers, else by
/// their bytes. Where all are numbers, spellings of one number are one label.
class LabelNames {
 public:
  LabelNames() = default;
  /// Of the spellings that were found; the shortest one names its class.
  static LabelNames of(const std::set<std::string>& found);
  /// Of a model whose head has these classes. Labels that were found are their names (exactly, else whatever their
  /// case) or their numbers. Where the model only numbers its classes (LABEL_0, LABEL_1), they are called what was
  /// found; labels that are no such numbers are taken as of() takes them. Throws Error with every label that is none of
  /// the model's.
  static LabelNames of_model(std::vector<std::string> classes, const std::set<std::string>& found);
  /// The same without labels to look at: all are the model's.
  static LabelNames of_model(std::vector<std::string> classes) { return of_model(std::move(classes), {}); }
  /// Of names in the order of their classes, all different.
  static LabelNames in_order(std::vector<std::string> names);

  const std::vector<std::string>& names() const { return names_; }
  size_t size() const { return names_.size(); }
  /// True for the classes of a model's own head.
  bool are_the_models() const { return the_models_; }
  /// Its class, white space at both ends aside; of a model's own classes also by another case, or, unless the names
  /// are numbers, by its number.
  std::optional<int64_t> find(std::string_view label) const;
  /// {spelling, name} of the spellings that are not the name of their class.
  const std::vector<std::pair<std::string, std::string>>& respelt() const { return respelt_; }

 private:
  void index();
  std::optional<int64_t> find_as_the_models(std::string_view label) const;

  std::vector<std::string> names_;
  std::map<std::string, int64_t, std::less<>> classes_,
      numbers_;  ///< numbers_ is empty unless all names are different numbers
  std::vector<std::pair<std::string, std::string>> respelt_;
  bool the_models_ = false;
};

}  // namespace deeplora
