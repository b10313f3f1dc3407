// What torch.export.save writes of a program, as plain structures: a graph of operators over named values. Free of
// LibTorch; nothing in the file is executed or unpickled. Names and meaning are those of PyTorch's
// torch/_export/serde/schema.py (major version 8, PyTorch 2.9 and later).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace deeplora {

/// A size, stride or offset: a number, or an expression of sizes that are free (linear_size()).
struct ExportedSize {
  std::optional<int64_t> fixed;
  std::string expression;

  bool operator==(const ExportedSize&) const = default;
};

/// What the program knows of a tensor.
struct ExportedTensor {
  int64_t dtype = 0;  ///< in the file's own numbering
  std::vector<ExportedSize> sizes, strides;
  ExportedSize offset;
  std::string device;
};

/// A value of the graph by its name, or a literal; neither is None.
struct ExportedItem {
  std::string name;
  std::variant<std::monostate, bool, int64_t, double, std::string> literal;
};

struct ExportedGraph;

/// An operator's argument or result.
struct ExportedArgument {
  std::string name;   ///< of the operator's parameter; empty where operators have no names for them
  std::string type;   ///< "as_tensor", "as_ints": how the file has it
  bool list = false;  ///< of items; else one item
  std::vector<ExportedItem> items;
  std::shared_ptr<const ExportedGraph> graph;  ///< of as_graph
};

struct ExportedNode {
  std::string target;  ///< "torch.ops.aten.linear.default"
  std::vector<ExportedArgument> inputs, outputs;
  std::string module;  ///< the innermost module whose forward holds it: "encoder.layer.0"
};

struct ExportedGraph {
  std::vector<ExportedArgument> inputs, outputs;
  std::vector<ExportedNode> nodes;
  std::map<std::string, ExportedTensor> tensors;
};

/// An input of the program's graph, or an output. `kind` is as in the file: "parameter", "user_input".
struct ExportedSpec {
  std::string kind;
  ExportedArgument argument;
  std::string target;  ///< the parameter, buffer or constant that it stands for
};

/// How arguments or results are nested: a leaf, or a container of others.
struct ExportedTree {
  std::string type;               ///< "builtins.dict"; empty for a leaf
  std::vector<std::string> keys;  ///< of a container with names, one a child
  std::vector<ExportedTree> children;

  bool leaf() const { return type.empty(); }
  size_t leaves() const;
};

/// Bounds of a free size that the program was made for.
struct ExportedRange {
  std::optional<int64_t> least, most;
};

struct ExportedProgram {
  ExportedGraph graph;
  std::vector<ExportedSpec> inputs, outputs;
  ExportedTree arguments;  ///< a pair: positional arguments, named ones
  ExportedTree result;
  std::vector<std::string> argument_names;  ///< of the positional arguments, then the named ones; may be empty
  std::map<std::string, ExportedRange> ranges;
  std::vector<std::string> guards;  ///< what else holds for sizes of the arguments (SizeGuard)
  std::string torch_version;

  /// Throws Error, naming `where`, for text that is no program of a version that is known.
  static ExportedProgram parse(const std::string& where, std::string_view text);
};

/// One of the programs in a file: "model.pt2#decoder" is the one called "decoder".
struct ExportedPlace {
  std::filesystem::path file;
  std::string model;  ///< empty: the only one
};
/// The parts of `path`; a file that is there under the whole name is one without '#'.
ExportedPlace exported_place(const std::filesystem::path& path);

/// Where the values of one tensor lie.
struct ExportedPayload {
  std::string path;        ///< a file beside the table; tensors that share memory share it
  bool parameter = false;  ///< else a buffer or constant
  bool pickled = false;
  std::optional<ExportedTensor> tensor;
};

/// A table of weights or constants: "data/weights/model_weights_config.json". Throws Error, naming `where`.
std::map<std::string, ExportedPayload> parse_exported_payloads(const std::string& where, std::string_view text);

/// Bytes from the start of its storage to the end of a tensor, of elements of `element_size` bytes. Throws Error,
/// naming `where`, for sizes, strides or an offset that are free, negative or too large for memory.
uint64_t exported_extent(const ExportedTensor& tensor, uint64_t element_size, const std::string& where);

}  // namespace deeplora
