// What TensorBoard itself reads from these files is checked by tests/python/test_events.py.
#include "train/event_writer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/error.h"
#include "core/files.h"

namespace deeplora {
namespace {
namespace fs = std::filesystem;

// Oracle: RFC 3720, appendix B.4, and the check value of the CRC catalogue.
TEST(Crc32cTest, KnownAnswers) {
  std::string rising;
  for (int i = 0; i < 32; ++i) rising += static_cast<char>(i);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43U);
  EXPECT_EQ(crc32c(rising), 0x46DD794EU);
  EXPECT_EQ(crc32c(std::string(rising.rbegin(), rising.rend())), 0x113FDB5CU);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(""), 0U);
}

class EventWriterTest : public ::testing::Test {
 protected:
  EventWriterTest() { fs::remove_all(folder_); }
  ~EventWriterTest() override { fs::remove_all(folder_); }
  fs::path folder_ = fs::temp_directory_path() / cat("deeplora-events-", ::getpid(), "-",
                                                     ::testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(EventWriterTest, EveryRecordIsInTheFileAsSoonAsTheCallReturns) {
  EventWriter writer(folder_ / "new" / "run");
  const size_t empty = read_file(writer.file()).size();
  writer.scalar("loss", 0.5, 7);
  const std::string content = read_file(writer.file());
  // Length 8, its CRC 4, Event{double 9, step 2, summary 2 + value 2 + tag 6 + float 5}, CRC 4.
  EXPECT_EQ(content.size(), empty + 16 + 26);
  writer.flush();
  EXPECT_EQ(read_file(writer.file()), content);
}

TEST_F(EventWriterTest, AResumedSessionsFileSortsBehindTheFirst) {
  const EventWriter first(folder_);
  const EventWriter second(folder_, 12), third(folder_, 20);
  EXPECT_LT(first.file().filename().string(), second.file().filename().string());
  EXPECT_LT(second.file().filename().string(), third.file().filename().string());
  EXPECT_EQ(first.file().filename().string().rfind("events.out.tfevents.", 0), 0u);
}

TEST_F(EventWriterTest, AFolderThatCannotBeMadeIsAnErrorWithItsName) {
  fs::create_directories(folder_);
  write_file_atomically(folder_ / "file", "x");
  try {
    EventWriter writer(folder_ / "file" / "run");
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find((folder_ / "file" / "run").string()), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace deeplora
