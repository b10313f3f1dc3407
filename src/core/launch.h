// How this process was started beside others: what torchrun, SLURM and MPI say in the environment. Free of LibTorch.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace deeplora {

/// A process among those that work together. The default is a process alone.
struct Launch {
  int rank = 0, size = 1;
  int local_rank = 0, local_size = 1;  ///< among the processes of this machine
  std::string master;                  ///< host where the processes meet: that of rank 0
  int port = 0;
  bool meeting_is_served = false;  ///< torchrun's agent listens there already; else rank 0 does
  std::string attempt;             ///< torchrun's restart count, which keeps restarts apart

  bool several() const { return size > 1; }
  bool leads() const { return rank == 0; }
};

/// The value of an environment variable, or nothing.
using Environment = std::function<std::optional<std::string>(const std::string&)>;

/// RANK and WORLD_SIZE (torchrun), else OMPI_COMM_WORLD_RANK/SIZE, else PMI_RANK/SIZE, else SLURM_PROCID/NTASKS; with
/// more than one process also MASTER_ADDR and MASTER_PORT. SLURM's count only in a step of srun (SLURM_STEP_ID), or
/// with MASTER_ADDR: a batch script has them too. Throws Error when one of a pair is missing, a number is none, or the
/// address is missing.
Launch launch_from(const Environment& environment);

/// launch_from() with the environment of this process.
Launch launch_from_environment();

/// True for the variables that launch_from() reads: what a child that works alone must not inherit.
bool is_launch_variable(const std::string& name);

}  // namespace deeplora
