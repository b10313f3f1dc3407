#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tests/fuzz/targets.h"
#include "tests/support/temp_folder.h"

namespace deeplora::fuzz {
namespace fs = std::filesystem;

std::vector<std::string_view> parts_of(std::string_view input, size_t count) {
  constexpr std::string_view kLine = "\n----\n";
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = parts.size() + 1 < count ? input.find(kLine) : std::string_view::npos;
    parts.push_back(input.substr(0, end));
    if (end == std::string_view::npos) break;
    input.remove_prefix(end + kLine.size());
  }
  parts.resize(std::max(count, parts.size()));
  return parts;
}

std::vector<std::string> options_of(std::string_view input, size_t count, std::string_view& rest) {
  const size_t end = std::min(input.find('\n'), input.size());
  std::istringstream line{std::string(input.substr(0, end))};
  rest = input.substr(std::min(end + 1, input.size()));
  std::vector<std::string> words;
  for (std::string word; line >> word;) words.push_back(word);
  words.resize(std::max(count, words.size()));
  return words;
}

MemoryFile::MemoryFile(std::string_view content) : descriptor_(::memfd_create("input", MFD_CLOEXEC)) {
  if (descriptor_ < 0) throw std::runtime_error("no file in memory");
  while (!content.empty()) {
    const ssize_t written = ::write(descriptor_, content.data(), content.size());
    if (written <= 0) throw std::runtime_error("no room in memory");
    content.remove_prefix(static_cast<size_t>(written));
  }
}

MemoryFile::~MemoryFile() { ::close(descriptor_); }

fs::path MemoryFile::path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

fs::path folder_with(const std::vector<std::pair<std::string, std::string_view>>& files) {
  static const testing::TempFolder folder(fs::exists("/dev/shm") ? fs::path("/dev/shm") : fs::temp_directory_path());
  for (const auto& entry : fs::directory_iterator(folder.path())) fs::remove_all(entry.path());
  for (const auto& [name, content] : files) folder.write(name, std::string(content));
  return folder.path();
}

}  // namespace deeplora::fuzz
