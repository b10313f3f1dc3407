#include "core/launch.h"

#include <gtest/gtest.h>

#include <map>

#include "core/error.h"

namespace deeplora {
namespace {

using Variables = std::map<std::string, std::string>;

Launch launch(const Variables& variables) {
  return launch_from([&](const std::string& name) {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
}

std::string error(const Variables& variables) {
  try {
    launch(variables);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(LaunchTest, AProcessIsAloneWithoutVariablesOrInAWorldOfOne) {
  EXPECT_FALSE(launch({}).several());
  EXPECT_FALSE(launch({{"RANK", "0"}, {"WORLD_SIZE", "1"}}).several());
  EXPECT_FALSE(launch({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}}).several())
      << "a batch script, not a step of srun";
  EXPECT_FALSE(launch({{"SLURM_PROCID", "0"}, {"MASTER_ADDR", "n1"}}).several()) << "a batch script without -n";
}

TEST(LaunchTest, ReadsTheVariablesOfEveryLauncher) {
  const Variables meeting = {{"MASTER_ADDR", "node1"}, {"MASTER_PORT", "29500"}};
  const std::vector<Variables> all = {
      {{"RANK", "3"}, {"WORLD_SIZE", "4"}, {"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "2"}},
      {{"OMPI_COMM_WORLD_RANK", "3"},
       {"OMPI_COMM_WORLD_SIZE", "4"},
       {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
       {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}},
      {{"PMI_RANK", "3"}, {"PMI_SIZE", "4"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "2"}},
      {{"SLURM_PROCID", "3"}, {"SLURM_NTASKS", "4"}, {"SLURM_LOCALID", "1"}, {"SLURM_NTASKS_PER_NODE", "2"}}};
  for (Variables variables : all) {
    for (const auto& [name, value] : variables) {
      EXPECT_EQ(is_launch_variable(name),
                name.find("LOCAL") == std::string::npos && name.find("PER_NODE") == std::string::npos)
          << name;
    }
    variables.insert(meeting.begin(), meeting.end());
    const Launch found = launch(variables);
    EXPECT_EQ(found.rank, 3);
    EXPECT_EQ(found.size, 4);
    EXPECT_EQ(found.local_rank, 1);
    EXPECT_EQ(found.local_size, 2);
    EXPECT_EQ(found.master, "node1");
    EXPECT_EQ(found.port, 29500);
    EXPECT_FALSE(found.leads());
    EXPECT_FALSE(found.meeting_is_served);
  }
  // torchrun's own come first, inside an allocation of SLURM too.
  EXPECT_EQ(launch({{"RANK", "1"},
                    {"WORLD_SIZE", "2"},
                    {"SLURM_PROCID", "0"},
                    {"SLURM_NTASKS", "9"},
                    {"MASTER_ADDR", "n"},
                    {"MASTER_PORT", "1"}})
                .size,
            2);
}

TEST(LaunchTest, KnowsWhenTorchrunKeepsTheMeetingPoint) {
  const Launch found = launch({{"RANK", "0"},
                               {"WORLD_SIZE", "2"},
                               {"MASTER_ADDR", "n"},
                               {"MASTER_PORT", "1"},
                               {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                               {"TORCHELASTIC_RESTART_COUNT", "2"}});
  EXPECT_TRUE(found.meeting_is_served);
  EXPECT_EQ(found.attempt, "2");
}

TEST(LaunchTest, SaysWhatIsMissingOrWrong) {
  EXPECT_EQ(error({{"RANK", "0"}}),
            "environment variable RANK is set but WORLD_SIZE is not; set both (process number and number of "
            "processes), or unset both to run alone");
  EXPECT_NE(error({{"WORLD_SIZE", "2"}}).find("WORLD_SIZE is set but RANK is not"), std::string::npos);
  EXPECT_NE(error({{"RANK", "0"}, {"WORLD_SIZE", "2"}}).find("WORLD_SIZE is 2, but MASTER_ADDR is not set"),
            std::string::npos);
  EXPECT_NE(error({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "n"}}).find("MASTER_PORT is not set"),
            std::string::npos);
  EXPECT_NE(
      error({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, {"SLURM_STEP_ID", "0"}}).find("MASTER_ADDR is not set"),
      std::string::npos);
  EXPECT_NE(error({{"RANK", "2"}, {"WORLD_SIZE", "2"}}).find("RANK: expected a whole number from 0 to 1, found '2'"),
            std::string::npos);
  EXPECT_NE(error({{"RANK", "zero"}, {"WORLD_SIZE", "2"}}).find("found 'zero'"), std::string::npos);
  EXPECT_NE(error({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "n"}, {"MASTER_PORT", "70000"}})
                .find("from 1 to 65535"),
            std::string::npos);
}

}  // namespace
}  // namespace deeplora
