#include "model_files/tensor_pickle.h"

#include <deque>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "core/error.h"

namespace deeplora {
namespace {

constexpr size_t kMostPickleDimensions = 64;

/// Numbers of types as a program of torch.export has them.
const std::map<std::string, int64_t>& storage_types() {
  static const std::map<std::string, int64_t> types{
      {"torch.ByteStorage", 1},  {"torch.CharStorage", 2},           {"torch.ShortStorage", 3},
      {"torch.IntStorage", 4},   {"torch.LongStorage", 5},           {"torch.HalfStorage", 6},
      {"torch.FloatStorage", 7}, {"torch.DoubleStorage", 8},         {"torch.ComplexFloatStorage", 10},
      {"torch.BoolStorage", 12}, {"torch.ComplexDoubleStorage", 11}, {"torch.BFloat16Storage", 13}};
  return types;
}

constexpr const char *kDict = "collections.OrderedDict", *kTensor = "torch._utils._rebuild_tensor_v2",
                     *kParameter = "torch._utils._rebuild_parameter",
                     *kParameterWithState = "torch._utils._rebuild_parameter_with_state";  // attributes of its own

struct PickleNode;
using PickleRef = PickleNode*;

struct PickleGlobal {
  std::string name;  ///< "torch.FloatStorage"
};
struct PickleTuple {
  std::vector<PickleRef> items;
};
struct PickleDict {
  std::vector<std::pair<PickleRef, PickleRef>> items;
};
struct PickleStorage {
  int64_t dtype = 0;
  std::string key, device;
};
/// A value of the pickle; monostate is None.
struct PickleNode {
  std::variant<std::monostate, bool, int64_t, std::string, PickleGlobal, PickleTuple, PickleDict, PickleStorage,
               ExportedPayload>
      held;
};

/// The machine that a pickle is a program for, with the few instructions and functions that tensors need.
class PickleReader {
 public:
  PickleReader(const std::string& where, std::string_view bytes) : where_(where), bytes_(bytes) {}

  std::map<std::string, ExportedPayload> run() {
    while (step()) {
    }
    return tensors_of(pop());
  }

 private:
  // ---- bytes ----

  [[noreturn]] void broken(const char* what) const {
    fail(where_, ": its pickle is damaged at byte ", at_, ": ", what);
  }

  std::string_view take(size_t count) {
    if (count > bytes_.size() - at_) broken("it ends too early");
    at_ += count;
    return bytes_.substr(at_ - count, count);
  }

  uint64_t number(size_t width) {
    uint64_t out = 0;
    const std::string_view digits = take(width);
    for (size_t i = width; i-- > 0;) out = out << 8 | static_cast<unsigned char>(digits[i]);
    return out;
  }

  std::string line() {
    const size_t end = bytes_.find('\n', at_);
    if (end == std::string_view::npos) broken("a name without an end");
    const std::string out(take(end - at_));
    at_ = end + 1;
    return out;
  }

  // ---- the stack ----

  template <class T>
  void push(T value) {
    stack_.push_back(&nodes_.emplace_back(PickleNode{std::move(value)}));
  }

  PickleRef pop() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) broken("it takes a value that is not there");
    const PickleRef out = stack_.back();
    stack_.pop_back();
    return out;
  }

  std::vector<PickleRef> pop_to_mark() {
    if (marks_.empty()) broken("it takes values that are not there");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<PickleRef> out(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return out;
  }

  template <class T>
  T& as(PickleRef value, const char* what) {
    T* held = std::get_if<T>(&value->held);
    if (held == nullptr) broken(what);
    return *held;
  }

  void push_tuple(size_t count) {
    PickleTuple out;
    for (size_t i = 0; i < count; ++i) out.items.insert(out.items.begin(), pop());
    push(std::move(out));
  }

  void keep(uint64_t place) {
    if (stack_.empty()) broken("it keeps a value that is not there");
    memo_[place] = stack_.back();
  }

  void push_kept(uint64_t place) {
    const auto found = memo_.find(place);
    if (found == memo_.end()) broken("it reads a value that it did not keep");
    stack_.push_back(found->second);
  }

  // ---- instructions ----

  /// False at the end.
  bool step() {
    const auto code = static_cast<unsigned char>(take(1)[0]);
    if (code == '.') return false;
    check(simple(code) || structured(code), where_, ": its pickle has an instruction (", static_cast<int>(code),
          ") that tensors do not need");
    return true;
  }

  bool simple(unsigned char code) {
    switch (code) {
      case 0x80: take(1); return true;  // the version
      case 'N': push(std::monostate()); return true;
      case 0x88: push(true); return true;
      case 0x89: push(false); return true;
      case 'K': push(static_cast<int64_t>(number(1))); return true;
      case 'M': push(static_cast<int64_t>(number(2))); return true;
      case 'J': push(static_cast<int64_t>(static_cast<int32_t>(number(4)))); return true;
      case 0x8a: push_long(); return true;
      case 'X': push(std::string(take(number(4)))); return true;
      case 'q': keep(number(1)); return true;
      case 'r': keep(number(4)); return true;
      case 'h': push_kept(number(1)); return true;
      case 'j': push_kept(number(4)); return true;
      default: return false;
    }
  }

  bool structured(unsigned char code) {
    switch (code) {
      case '(': marks_.push_back(stack_.size()); return true;
      case '}': push(PickleDict()); return true;
      case ')': push(PickleTuple()); return true;
      case 't': push(PickleTuple{pop_to_mark()}); return true;
      case 0x85: push_tuple(1); return true;
      case 0x86: push_tuple(2); return true;
      case 0x87: push_tuple(3); return true;
      case 's': set_item(); return true;
      case 'u': set_items(); return true;
      case 'c': push_global(); return true;
      case 'Q': push_storage(); return true;
      case 'R': call(); return true;
      case 'b': forget_state(); return true;
      default: return false;
    }
  }

  /// A whole number of a few bytes, the last of which has its sign.
  void push_long() {
    const uint64_t width = number(1);
    if (width > 8) broken("a number of more than 8 bytes");
    uint64_t value = number(width);
    const bool negative = width > 0 && width < 8 && (value >> (8 * width - 1) & 1) != 0;
    if (negative) value |= ~uint64_t{0} << (8 * width);
    push(static_cast<int64_t>(value));
  }

  void set_item() {
    const PickleRef value = pop(), key = pop();
    if (stack_.empty()) broken("an entry without a dictionary");
    as<PickleDict>(stack_.back(), "an entry of what is no dictionary").items.emplace_back(key, value);
  }

  void set_items() {
    const std::vector<PickleRef> items = pop_to_mark();
    if (stack_.empty() || items.size() % 2 != 0) broken("entries without a dictionary");
    auto& dict = as<PickleDict>(stack_.back(), "entries of what is no dictionary");
    for (size_t i = 0; i < items.size(); i += 2) dict.items.emplace_back(items[i], items[i + 1]);
  }

  void push_global() {
    std::string name = line();
    name += "." + line();
    const bool known = storage_types().count(name) != 0 || name == kDict || name == kTensor || name == kParameter ||
                       name == kParameterWithState;
    check(known, where_, ": its pickle asks for ", name, ", which is no part of a plain tensor");
    push(PickleGlobal{std::move(name)});
  }

  /// ("storage", torch.FloatStorage, "0", "cpu", 12)
  void push_storage() {
    const auto& parts = as<PickleTuple>(pop(), "a storage without its description").items;
    if (parts.size() < 4 || as<std::string>(parts[0], "a storage without its kind") != "storage")
      broken("a storage without its description");
    const std::string& type = as<PickleGlobal>(parts[1], "a storage without its type").name;
    const auto found = storage_types().find(type);
    if (found == storage_types().end()) broken("a storage of what is no type");
    push(PickleStorage{found->second, as<std::string>(parts[2], "a storage without its name"),
                       as<std::string>(parts[3], "a storage without its device")});
  }

  void call() {
    const auto arguments = as<PickleTuple>(pop(), "a call without arguments").items;
    const std::string name = as<PickleGlobal>(pop(), "a call of what is no function").name;
    if (name == kDict && arguments.empty()) return push(PickleDict());
    if (name == kTensor && arguments.size() >= 4) return push(tensor_from(arguments));
    if ((name != kParameter && name != kParameterWithState) || arguments.empty())
      broken("a call with other arguments than a tensor's");
    ExportedPayload out = as<ExportedPayload>(arguments[0], "a parameter of what is no tensor");
    out.parameter = true;
    push(std::move(out));
  }

  /// (storage, offset, sizes, strides, ...)
  ExportedPayload tensor_from(const std::vector<PickleRef>& arguments) {
    const auto& storage = as<PickleStorage>(arguments[0], "a tensor without a storage");
    ExportedPayload out;
    out.path = "data/" + storage.key;
    out.tensor.emplace();
    out.tensor->dtype = storage.dtype;
    out.tensor->offset.fixed = as<int64_t>(arguments[1], "a tensor without a place in its storage");
    out.tensor->sizes = sizes_from(arguments[2]);
    out.tensor->strides = sizes_from(arguments[3]);
    out.tensor->device = storage.device;
    if (out.tensor->sizes.size() != out.tensor->strides.size()) broken("a tensor of as many sizes as strides expected");
    return out;
  }

  std::vector<ExportedSize> sizes_from(PickleRef value) {
    const auto& items = as<PickleTuple>(value, "a tensor without sizes").items;
    if (items.size() > kMostPickleDimensions) broken("a tensor of too many dimensions");
    std::vector<ExportedSize> out;
    for (const PickleRef item : items) out.push_back({as<int64_t>(item, "a size that is no number"), {}});
    return out;
  }

  /// Of an OrderedDict: what a state_dict says of its modules' versions.
  void forget_state() {
    pop();
    if (stack_.empty()) broken("a state of nothing");
    as<PickleDict>(stack_.back(), "a state of what is no dictionary");
  }

  std::map<std::string, ExportedPayload> tensors_of(PickleRef result) {
    std::map<std::string, ExportedPayload> out;
    for (const auto& [key, value] : as<PickleDict>(result, "it ends without a dictionary").items) {
      const std::string& name = as<std::string>(key, "a tensor without a name");
      const auto* tensor = std::get_if<ExportedPayload>(&value->held);
      check(tensor != nullptr, where_, ": '", name, "' in its pickle is no tensor");
      out[name] = *tensor;
    }
    return out;
  }

  const std::string& where_;
  std::string_view bytes_;
  size_t at_ = 0;
  std::deque<PickleNode> nodes_;  ///< owns all values, which may hold each other
  std::vector<PickleRef> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint64_t, PickleRef> memo_;
};

}  // namespace

std::map<std::string, ExportedPayload> parse_pickled_tensors(const std::string& where, std::string_view bytes) {
  return PickleReader(where, bytes).run();
}

}  // namespace deeplora
