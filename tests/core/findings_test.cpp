// Oracle: what the files hold, and what the test wrote into the cache.
#include "core/findings.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/files.h"
#include "support/temp_folder.h"

namespace deeplora {
namespace {

namespace fs = std::filesystem;
using testing::TempFolder;

/// Files that were written long enough ago, and a cache beside them.
class FindingsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    for (const char* name : {"a", "b", "restored", "broken", "elsewhere"}) folder_->write(name, "0123456789");
    std::this_thread::sleep_for(std::chrono::milliseconds(3100));
  }
  static void TearDownTestSuite() { delete folder_; }
  void SetUp() override { keep_findings(cache()); }
  void TearDown() override {
    keep_findings({});
    fs::remove_all(cache());
  }
  static fs::path file(const char* name) { return *folder_ / name; }
  static fs::path cache() { return *folder_ / "cache/of/ours"; }
  static fs::path entry() { return fs::directory_iterator(cache())->path(); }
  static inline TempFolder* folder_ = nullptr;
};

TEST_F(FindingsTest, AreKnownAsLongAsNothingChanges) {
  const std::vector<fs::path> both{file("a"), file("b")};
  EXPECT_FALSE(Findings("sum", both).known());
  Findings("sum", both).remember("45");
  EXPECT_EQ(Findings("sum", both).known(), "45");
  EXPECT_FALSE(Findings("sum", {file("a")}).known());
  EXPECT_FALSE(Findings("sum", {file("b"), file("a")}).known());
  EXPECT_FALSE(Findings("product", both).known());
  keep_findings(cache(), /*recompute=*/true);
  EXPECT_FALSE(Findings("sum", both).known());
  Findings("sum", both).remember("46");
  keep_findings(cache());
  EXPECT_EQ(Findings("sum", both).known(), "46");
  EXPECT_EQ(std::distance(fs::directory_iterator(cache()), fs::directory_iterator()), 1) << "written over";
}

TEST_F(FindingsTest, OfAFileThatChangedAreNotUsed) {
  const fs::path changed = file("restored");
  struct stat before = {};
  ASSERT_EQ(::stat(changed.c_str(), &before), 0);
  Findings("sum", {changed}).remember("45");
  const Findings looked("sum", {changed});
  {
    std::fstream out(changed, std::ios::in | std::ios::out | std::ios::binary);
    out << '9';
  }
  const timespec times[] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, changed.c_str(), times, 0), 0);
  EXPECT_FALSE(Findings("sum", {changed}).known()) << "size, time and inode are the same";
  looked.remember("54");  // found while it changed
  EXPECT_FALSE(Findings("sum", {changed}).known());
}

TEST_F(FindingsTest, OfAFileThatWasJustWrittenAreNotKept) {
  const fs::path fresh = folder_->write("fresh", "0123456789");
  Findings("sum", {fresh}).remember("45");
  EXPECT_FALSE(Findings("sum", {fresh}).known());
  EXPECT_FALSE(fs::exists(cache()));
}

TEST_F(FindingsTest, FromElsewhereAreNotUsed) {
  const fs::path moved = file("elsewhere");
  const Findings here("sum", {moved});
  here.remember("45");
  auto kept = nlohmann::json::parse(read_file(entry()));
  const std::string files = kept["files"];
  const size_t line = files.find('\n');
  ASSERT_NE(line, std::string::npos);
  for (const std::string& other : {"another-machine" + files.substr(line), files + " 1", std::string()}) {
    kept["files"] = other;
    std::ofstream(entry()) << kept.dump();
    EXPECT_FALSE(here.known()) << other;
  }
  kept["files"] = files;
  std::ofstream(entry()) << kept.dump();
  EXPECT_EQ(here.known(), "45");
}

TEST_F(FindingsTest, AFolderThatCannotServeIsAsGoodAsNone) {
  const Findings found("sum", {file("broken")});
  found.remember("45");
  for (const char* content : {"", "{", "[]", "null", "{\"kind\": 3}", "\xff\xfe"}) {
    std::ofstream(entry(), std::ios::trunc) << content;
    EXPECT_FALSE(found.known()) << content;
  }
  found.remember("45");
  EXPECT_EQ(found.known(), "45");
  keep_findings(file("a") / "below-a-file");
  found.remember("45");
  EXPECT_FALSE(found.known());
  keep_findings("/proc/none/of/it");
  found.remember("45");
  EXPECT_FALSE(found.known());
  keep_findings({});
  found.remember("45");
  EXPECT_FALSE(found.known());
  EXPECT_FALSE(Findings("sum", {file("not-there")}).known());
}

}  // namespace
}  // namespace deeplora
