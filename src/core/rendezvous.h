// Where the processes of a run meet: a small table of texts that rank 0 keeps and all of them reach.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/error.h"
#include "core/launch.h"

namespace deeplora {

/// Another process of the run ended, failed or cannot be reached.
class PeerLost : public Error {
 public:
  using Error::Error;
};

/// c10d's TCPStore under the names that this program needs. Every call throws PeerLost when rank 0 is gone.
class Rendezvous {
 public:
  /// Waits until all processes are there. Throws PeerLost when they are not within `timeout`, Error when rank 0 cannot
  /// listen at the port.
  Rendezvous(const Launch& launch, std::chrono::milliseconds timeout);
  ~Rendezvous();
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  const Launch& launch() const { return launch_; }
  std::chrono::milliseconds timeout() const { return timeout_; }

  void set(const std::string& key, const std::string& value);
  std::optional<std::string> find(const std::string& key);
  /// The value as soon as somebody has set it; `what` is said when nobody did in time. A failure announced by a process
  /// ends the wait.
  std::string wait(const std::string& key, const std::string& what);
  /// Adds to a counter that starts at 0 and returns it.
  int64_t add(const std::string& key, int64_t amount);
  /// Sets a key that nobody has set yet; returns what it holds, one's own value or the earlier one.
  std::string claim(const std::string& key, const std::string& value);

  /// Tells the others why this process leaves. Never throws.
  void announce_failure(const std::string& message) noexcept;
  /// "process 1 of 3: message" of the first process that announced a failure; nothing when none did or rank 0 is gone.
  std::optional<std::string> failure() noexcept;
  /// Throws PeerLost when a process has announced a failure.
  void check_failure();

  struct Store;  ///< c10d's store
  Store& store() { return *store_; }

 private:
  void wait_for_all();

  Launch launch_;
  std::chrono::milliseconds timeout_;
  std::unique_ptr<Store> store_;
};

}  // namespace deeplora
