#include "core/launch.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "core/error.h"

namespace deeplora {
namespace {

/// The variables of one launcher.
struct Launcher {
  const char *rank, *size, *local_rank, *local_size;
  bool always_set = false;  ///< also where only one process is meant
};

constexpr std::array<Launcher, 4> kLaunchers = {{
    {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE", true},
}};

int number(const std::string& name, const std::string& text, int least, int most) {
  int value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  check(failed == std::errc() && end == text.data() + text.size() && value >= least && value <= most,
        "environment variable ", name, ": expected a whole number from ", least,
        most < 1000000 ? cat(" to ", most) : std::string(), ", found '", text, "'");
  return value;
}

constexpr int kMostProcesses = 1000000;

void read_meeting_point(const Environment& environment, const Launcher& launcher, Launch& launch) {
  const auto address = environment("MASTER_ADDR"), port = environment("MASTER_PORT");
  check(address && !address->empty() && port, "environment variable ", launcher.size, " is ", launch.size, ", but ",
        address && !address->empty() ? "MASTER_PORT" : "MASTER_ADDR",
        " is not set; the processes meet at MASTER_ADDR (host of rank 0) and MASTER_PORT (a free port there, e.g. "
        "29500); ",
        "set both for every process, or unset ", launcher.rank, " and ", launcher.size, " to run alone");
  launch.master = *address;
  launch.port = number("MASTER_PORT", *port, 1, 65535);
  launch.meeting_is_served = environment("TORCHELASTIC_USE_AGENT_STORE").value_or("") == "True";
  launch.attempt = environment("TORCHELASTIC_RESTART_COUNT").value_or("0");
}

}  // namespace

Launch launch_from(const Environment& environment) {
  for (const Launcher& launcher : kLaunchers) {
    const auto rank = environment(launcher.rank), size = environment(launcher.size);
    if (!rank && !size) continue;
    const bool meant = !launcher.always_set || environment("SLURM_STEP_ID") || environment("MASTER_ADDR");
    if (!meant || (launcher.always_set && !size)) continue;
    check(rank && size, "environment variable ", rank ? launcher.rank : launcher.size, " is set but ",
          rank ? launcher.size : launcher.rank,
          " is not; set both (process number and number of processes), or unset both to run alone");
    Launch launch;
    launch.size = number(launcher.size, *size, 1, kMostProcesses);
    launch.rank = number(launcher.rank, *rank, 0, launch.size - 1);
    if (!launch.several()) return {};
    if (const auto local = environment(launcher.local_rank))
      launch.local_rank = number(launcher.local_rank, *local, 0, kMostProcesses);
    if (const auto local = environment(launcher.local_size))
      launch.local_size = number(launcher.local_size, *local, 1, kMostProcesses);
    read_meeting_point(environment, launcher, launch);
    return launch;
  }
  return {};
}

Launch launch_from_environment() {
  return launch_from([](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value ? std::optional<std::string>(value) : std::nullopt;
  });
}

bool is_launch_variable(const std::string& name) {
  return std::any_of(kLaunchers.begin(), kLaunchers.end(),
                     [&](const Launcher& launcher) { return name == launcher.rank || name == launcher.size; });
}

}  // namespace deeplora
