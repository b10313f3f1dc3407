#include "core/rendezvous.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <future>
#include <thread>

#include "core/rendezvous_store.h"

namespace deeplora {
namespace {

constexpr auto kBetweenLooks = std::chrono::milliseconds(50);
constexpr const char* kFailure = "failure";
constexpr const char* kArrived = "arrived";

std::vector<uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

std::string text_of(const std::vector<uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }

/// Does `action`; what c10d throws becomes PeerLost.
template <class Action>
auto reach(const Launch& launch, const Action& action) {
  try {
    return action();
  } catch (const std::exception& e) {
    throw PeerLost(cat("process ", launch.rank, " of ", launch.size, ": rank 0 ended or cannot be reached at ",
                       launch.master, ":", launch.port, " (", reason_of(e), "); its own messages say why"));
  }
}

/// What `action` gives, or nothing after a while: behind a broken network the store never answers. The thread is left
/// behind then.
template <class Action>
auto soon(const Action& action) -> std::optional<decltype(action())> {
  const auto result = std::make_shared<std::promise<decltype(action())>>();
  auto future = result->get_future();
  std::thread([result, action] {
    try {
      result->set_value(action());
    } catch (const std::exception&) {
      result->set_exception(std::current_exception());
    }
  }).detach();
  if (future.wait_for(std::chrono::seconds(5)) != std::future_status::ready) return std::nullopt;
  return future.get();
}

std::string seconds_text(std::chrono::milliseconds time) {
  return cat(static_cast<double>(time.count()) / 1000, " s (train.distributed_timeout)");
}

}  // namespace

std::string reason_of(const std::exception& error) {
  std::string text = error.what();
  if (text.starts_with("[")) {  // "[/path/pair.cc:553] Connection closed ..."
    const size_t close = text.find("] ");
    if (close != std::string::npos) text = text.substr(close + 2);
  }
  text = text.substr(0, text.find('\n'));
  return text.substr(0, text.find(". "));
}

Rendezvous::Rendezvous(const Launch& launch, std::chrono::milliseconds timeout)
    : launch_(launch), timeout_(timeout), store_(std::make_unique<Store>()) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(launch.port);
  options.isServer = launch.leads() && !launch.meeting_is_served;
  options.numWorkers = static_cast<size_t>(launch.size);
  options.waitWorkers = false;
  options.timeout = timeout;
  try {
    store_->shared = c10::make_intrusive<c10d::TCPStore>(launch.master, options);
  } catch (const std::exception& e) {
    const std::string place = cat(launch.master, ":", launch.port, ": ", reason_of(e));
    if (options.isServer)
      fail("rank 0 cannot listen at MASTER_ADDR:MASTER_PORT ", place, "; choose another MASTER_PORT");
    throw PeerLost(
        cat("process ", launch.rank, " of ", launch.size, " cannot reach rank 0 at MASTER_ADDR:MASTER_PORT ", place));
  }
  store_->shared = c10::make_intrusive<c10d::PrefixStore>("deeplora/" + launch.attempt, store_->shared);
  wait_for_all();
}

Rendezvous::~Rendezvous() = default;

void Rendezvous::wait_for_all() {
  int64_t there = add(kArrived, 1);
  const auto end = std::chrono::steady_clock::now() + timeout_;
  while (there < launch_.size && std::chrono::steady_clock::now() < end) {
    check_failure();
    std::this_thread::sleep_for(kBetweenLooks);
    there = add(kArrived, 0);
  }
  if (there < launch_.size)
    throw PeerLost(cat("only ", there, " of ", launch_.size, " processes came to ", launch_.master, ":", launch_.port,
                       " within ", seconds_text(timeout_), "; start the others, or look for their errors"));
}

void Rendezvous::set(const std::string& key, const std::string& value) {
  reach(launch_, [&] { store_->shared->set(key, bytes_of(value)); });
}

std::optional<std::string> Rendezvous::find(const std::string& key) {
  return reach(launch_, [&]() -> std::optional<std::string> {
    if (!store_->shared->check({key})) return std::nullopt;
    return text_of(store_->shared->get(key));
  });
}

std::string Rendezvous::wait(const std::string& key, const std::string& what) {
  const auto end = std::chrono::steady_clock::now() + timeout_;
  for (;;) {
    if (const auto value = find(key)) return *value;
    check_failure();
    if (std::chrono::steady_clock::now() >= end)
      throw PeerLost(
          cat("process ", launch_.rank, " of ", launch_.size, " waited ", seconds_text(timeout_), " for ", what));
    std::this_thread::sleep_for(kBetweenLooks);
  }
}

int64_t Rendezvous::add(const std::string& key, int64_t amount) {
  return reach(launch_, [&] { return store_->shared->add(key, amount); });
}

std::string Rendezvous::claim(const std::string& key, const std::string& value) {
  return reach(launch_, [&] { return text_of(store_->shared->compareSet(key, {}, bytes_of(value))); });
}

void Rendezvous::announce_failure(const std::string& message) noexcept {
  try {
    const auto text = bytes_of(cat("process ", launch_.rank, " of ", launch_.size, ": ", message));
    soon([store = store_->shared, text] { return store->compareSet(kFailure, {}, text); });
  } catch (const std::exception&) {
    // Rank 0 is gone; the others notice by themselves.
  }
}

std::optional<std::string> Rendezvous::failure() noexcept {
  try {
    const auto text = soon(
        [store = store_->shared] { return store->check({kFailure}) ? text_of(store->get(kFailure)) : std::string(); });
    return text && !text->empty() ? text : std::nullopt;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

void Rendezvous::check_failure() {
  if (const auto message = find(kFailure)) throw PeerLost("stopped with the other processes: " + *message);
}

}  // namespace deeplora
