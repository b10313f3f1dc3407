// deeplora: the command line. Parsing, one-line errors, exit codes; the work is in the subcommands' files.
#include <c10/util/Exception.h>
#include <torch/version.h>

#include <cstdio>
#include <iostream>

#include "commands.h"
#include "core/error.h"
#include "core/findings.h"
#include "core/log.h"
#include "core/parallel.h"
#include "core/system.h"
#include "deeplora_version.h"
#include "model_files/torchscript_file.h"
#include "usage_hints.h"

namespace {

enum ExitCode { kDone = 0, kUserError = 1, kUsageError = 2, kInternalFault = 3, kInterrupted = 130 };

int run(const deeplora::Action& action, bool verbose) {
  try {
    action();
    std::cout.flush();
    deeplora::check(std::cout.good(), "standard output cannot be written");
    return kDone;
  } catch (const deeplora::Interrupted& e) {
    std::cerr << "interrupted: " << e.what() << "\n";
    return kInterrupted;
  } catch (const deeplora::Error& e) {
    std::cerr << "error: " << e.what() << "\n";
    return kUserError;
  } catch (const std::bad_alloc&) {
    std::cerr << "error: out of memory; lower train.batch_size or data.max_length\n";
    return kInternalFault;
  } catch (const std::exception& e) {
    if (const auto name = deeplora::without_derivative(e); !name.empty()) {
      std::cerr << "error: the model computes with " << name
                << ", for which LibTorch has no backward pass: adapt weights behind it alone (adapter.targets), or "
                   "export the model with an operator that has one\n";
      return kUserError;
    }
    std::cerr << "internal fault: " << (verbose ? e.what() : deeplora::short_reason(e))
              << (verbose ? "\n" : " (--verbose shows where; please report it)\n");
    return kInternalFault;
  }
}

int parse_and_run(int argc, char** argv) {
  deeplora::keep_freed_memory();
  deeplora::use_threads(deeplora::default_threads());
  CLI::App app(
      "Fine-tunes TorchScript (.pt) and torch.export (.pt2) language models with LoRA and Deep LoRA, compares the two, "
      "exports merged weights.",
      "deeplora");
  app.set_version_flag("--version", deeplora::cat("deeplora ", deeplora::kVersion, " on LibTorch ", TORCH_VERSION));
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "Help of every subcommand");
  bool verbose = false;
  app.add_flag("--verbose", verbose, "More messages, and where an internal fault came from");
  bool verify = false;
  app.add_flag("--verify", verify, "Compute fingerprints of models again, also of files that have not changed");
  app.footer("Example:\n  deeplora finetune configs/sentiment_lora.yaml --set train.steps=100 --run runs/first");
  deeplora::Action action;
  deeplora::setup_inspect(app, action);
  deeplora::setup_init(app, action);
  deeplora::setup_finetune(app, action);
  deeplora::setup_evaluate(app, action);
  deeplora::setup_compare(app, action);
  deeplora::setup_predict(app, action);
  deeplora::setup_chat(app, action);
  deeplora::setup_export(app, action);
  deeplora::setup_complete(app, action);
  deeplora::setup_reference(app, action);
  app.fallthrough();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const bool asked = e.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success);
    const std::string hint = asked ? "" : deeplora::usage_hint(app, std::vector<std::string>(argv + 1, argv + argc));
    if (hint.empty()) app.exit(e);
    else std::cerr << "error: " << hint << "\n";
    return asked ? kDone : kUsageError;
  }
  deeplora::set_log_level(verbose ? deeplora::LogLevel::debug : deeplora::LogLevel::info);
  deeplora::keep_findings(deeplora::user_cache_folder(), verify);
  return run(action, verbose);
}

}  // namespace

int main(int argc, char** argv) { deeplora::end_process(parse_and_run(argc, argv)); }
