// Oracle: folders that are moved about on the disk.
#include "train/run_places.h"

#include <gtest/gtest.h>

#include <fstream>

#include "support/errors.h"
#include "support/temp_folder.h"

namespace deeplora {
namespace {

namespace fs = std::filesystem;
using First = RunPlaces::First;
using testing::error_of;
using testing::TempFolder;

void touch(const fs::path& file) {
  fs::create_directories(file.parent_path());
  std::ofstream(file) << "x";
}

/// Read back from what a run in `folder` would have written, as if it lay in `now`.
RunPlaces moved(const fs::path& folder, const fs::path& now, const std::vector<NamedFile>& files) {
  return RunPlaces::read(now, OrderedJsonFile::parse("places.json", RunPlaces::of(folder, files).json().dump()));
}

TEST(RunPlacesTest, BesideTheRunComesBeforeWhereItWasComesBeforeTheName) {
  const TempFolder temporary;
  const fs::path home = temporary.path() / "home", away = temporary.path() / "away";
  const NamedFile model("model.path", home / "models/m.pt");
  const auto places = moved(home / "runs/r", away / "runs/r", {model});
  EXPECT_EQ(places.candidates(model, First::remembered),
            (std::vector<fs::path>{away / "models/m.pt", home / "models/m.pt"}));
  EXPECT_TRUE(places.existing(model, First::remembered).empty());
  touch(home / "models/m.pt");
  EXPECT_EQ(places.existing(model, First::remembered), std::vector<fs::path>{home / "models/m.pt"});
  touch(away / "models/m.pt");
  EXPECT_EQ(places.existing(model, First::remembered),
            (std::vector<fs::path>{away / "models/m.pt", home / "models/m.pt"}));
  EXPECT_EQ(places.existing(model, First::as_named),
            (std::vector<fs::path>{home / "models/m.pt", away / "models/m.pt"}));
}

TEST(RunPlacesTest, ARelativeNameIsThatOfTheFolderWhereItWasGiven) {
  const TempFolder temporary;
  const fs::path before = fs::current_path();
  fs::create_directories(temporary.path() / "home/runs");
  fs::current_path(temporary.path() / "home");
  const NamedFile rows("data.train", "rows.tsv");
  const auto json = RunPlaces::of("runs/r", {rows, {"data.dev", ""}}).json();
  touch(temporary.path() / "home/rows.tsv");
  EXPECT_EQ(json.size(), 1U) << "an empty name is no file";
  EXPECT_EQ(json["data.train"]["from_run"], "../../rows.tsv");
  // From where it was given the name itself is the file, and the shortest way to say it.
  const auto here = RunPlaces::read("runs/r", OrderedJsonFile{"places.json", json});
  EXPECT_EQ(here.existing(rows, First::remembered), std::vector<fs::path>{"rows.tsv"});
  // A slash at the end of the run folder is no part of its name.
  fs::current_path(temporary.path());
  for (const char* run : {"home/runs/r", "home/runs/r/", "./home/runs/r/"})
    EXPECT_EQ(RunPlaces::read(run, OrderedJsonFile{"places.json", json}).existing(rows, First::remembered).front(),
              fs::path("home/rows.tsv"))
        << run;
  fs::current_path(before);
}

TEST(RunPlacesTest, AnotherNameUnderTheKeyIsNotWhatTheRunRemembers) {
  const TempFolder temporary;
  const fs::path home = temporary.path() / "home";
  touch(home / "a.tsv");
  const auto places = moved(home / "r", home / "r", {{"data.test", home / "a.tsv"}});
  const std::vector<fs::path> other{"b.tsv"};
  EXPECT_EQ(places.candidates({"data.test", "b.tsv"}, First::remembered), other);
  EXPECT_EQ(places.candidates({"data.dev", home / "a.tsv"}, First::remembered), std::vector<fs::path>{home / "a.tsv"})
      << "a run of an earlier version";
  EXPECT_EQ(RunPlaces().candidates({"data.test", "b.tsv"}, First::remembered), other);
}

TEST(RunPlacesTest, AFileKeepsTheNamesThatItHad) {
  const TempFolder temporary;
  const fs::path home = temporary.path() / "home";
  touch(home / "a.tsv");
  touch(home / "b.tsv");
  const auto first = RunPlaces::of(home / "r", {{"data.test", home / "x/../a.tsv"}});
  fs::create_directories(home / "x");
  const auto then = RunPlaces::of(home / "r", {{"data.test", home / "a.tsv"}}, first),
             other = RunPlaces::of(home / "r", {{"data.test", home / "b.tsv"}}, first);
  EXPECT_EQ(then.json()["data.test"]["names"].size(), 2U);
  for (const fs::path& name : {home / "x/../a.tsv", home / "a.tsv"})
    EXPECT_EQ(then.existing({"data.test", name}, First::remembered).size(), 1U) << name;
  EXPECT_EQ(other.json()["data.test"]["names"], nlohmann::ordered_json({(home / "b.tsv").string()})) << "another file";
}

TEST(RunPlacesTest, ALinkAndItsTargetAreOneFile) {
  const TempFolder temporary;
  const fs::path home = temporary.path() / "home";
  touch(home / "m.pt");
  fs::create_directory_symlink(home, temporary.path() / "link");
  const NamedFile named("model.path", temporary.path() / "link/m.pt");
  const auto places = moved(home / "r", home / "r", {named});
  EXPECT_EQ(places.existing(named, First::remembered), std::vector<fs::path>{named.second});
}

TEST(RunPlacesTest, WhatIsNotWrittenByARunIsRefusedByItsKey) {
  const auto read = [](const char* text) { RunPlaces::read("r", OrderedJsonFile::parse("r/places.json", text)); };
  EXPECT_NE(error_of([&] { read(R"({"model.path": "m.pt"})"); }).find("r/places.json: model.path"), std::string::npos);
  EXPECT_NE(error_of([&] { read(R"({"model.path": {"names": ["m.pt"], "from_run": 3}})"); }).find("from_run"),
            std::string::npos);
  EXPECT_NE(
      error_of([&] { read(R"({"model.path": {"names": ["m.pt"], "from_run": "m.pt"}})"); }).find("absolute is missing"),
      std::string::npos);
}

}  // namespace
}  // namespace deeplora
