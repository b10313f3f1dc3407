#include "models/weight_map.h"

#include "graph/lookups.h"
#include "graph/torchscript_forward.h"
#include "lm/targets.h"
#include "model_files/huggingface_folder.h"
#include "model_files/own_head.h"

namespace deeplora {

torch::Tensor WeightMap::take(const std::string& name, std::vector<int64_t> shape, bool widen) {
  const std::string path = prefix_ + name;
  used_.insert(path);
  if (!archive_.has(path)) {
    errors_.add("missing ", path);
    return torch::empty({0, 0});
  }
  torch::Tensor value = archive_.tensor(path).detach();
  bool fits = value.dim() == static_cast<int64_t>(shape.size());
  for (size_t i = 0; fits && i < shape.size(); ++i)
    fits = shape[i] < 0 || shape[i] == value.size(static_cast<int64_t>(i));
  if (!fits) errors_.add(path, ": expected shape [", join(shape), "], found ", value.sizes());
  if (widen && is_half(value)) value = value.to(torch::kFloat32);
  taken_.push_back({path, value});
  return value;
}

Projection WeightMap::stored(Projection projection) const {
  projection->may_stay_in(archive_.stored());
  return projection;
}

Projection WeightMap::projection(const std::string& name, int64_t out, int64_t in,
                                 std::optional<DeclaredBias> declared) {
  if (declared) check_bias(name, *declared);
  torch::Tensor weight = take(name + ".weight", {out, in}, /*widen=*/false);
  torch::Tensor bias;
  if (has(name + ".bias")) bias = take(name + ".bias", {out});
  return stored(Projection(prefix_ + name + ".weight", weight, bias));
}

Projection WeightMap::transposed_projection(const std::string& name, int64_t out, int64_t in) {
  const torch::Tensor weight = take(name + ".weight", {in, out}, /*widen=*/false);
  torch::Tensor bias;
  if (has(name + ".bias")) bias = take(name + ".bias", {out});
  return stored(Projection(ProjectionImpl::of_transposed(prefix_ + name + ".weight", weight, bias)));
}

JoinedProjections WeightMap::joined(std::vector<Projection> projections) const {
  std::vector<torch::Tensor> owners;
  for (const auto& projection : projections)
    for (const char* kind : {"weight", "bias"}) {
      const std::string& path = projection->path();
      const std::string name = path.substr(0, path.size() - std::string("weight").size()) + kind;
      if (archive_.has(name)) owners.push_back(archive_.tensor(name));
    }
  return JoinedProjections(std::move(projections), std::move(owners));
}

void WeightMap::expect_size(const std::string& key, int64_t found) {
  const JsonFile& config = archive_.config();
  if (archive_.holds_code() || !config.has(key)) return;
  const int64_t declared = config.at<int64_t>(key);
  if (declared != found) errors_.add("config.json: ", key, " is ", declared, ", but the weights show ", found);
}

void WeightMap::check_bias(const std::string& name, const DeclaredBias& bias) {
  const bool found = has(name + ".bias");
  if (archive_.holds_code() || found == bias.there) return;
  const std::string path = prefix_ + name + ".bias";
  if (!bias.key) errors_.add(found ? "unexpected " : "missing ", path);
  else
    errors_.add("config.json: ", bias.key, " is ", bias.there ? "true" : "false", ", but ", path, " is ",
                found ? "there" : "missing");
}

void WeightMap::expect_copy(const std::string& name, const std::string& table) {
  if (archive_.holds_code() || !has(name) || !has(table)) return;
  const torch::Tensor a = archive_.tensor(prefix_ + name), b = archive_.tensor(prefix_ + table);
  if (a.scalar_type() != b.scalar_type() || !torch::equal(a, b))
    errors_.add(prefix_, name, ": expected the values of ", prefix_, table, "; a table of its own has no native form");
}

bool WeightMap::tied(const std::string& name, const std::string& table) {
  if (!has(name) && !archive_.holds_code() && !ties_word_embeddings(archive_.config()))
    errors_.add("missing ", prefix_, name, ": config.json does not tie the output layer to the word table");
  if (!has(name) || !has(table)) return true;
  const torch::Tensor a = archive_.tensor(prefix_ + name), b = archive_.tensor(prefix_ + table);
  return a.is_same(b) || (a.sizes() == b.sizes() && a.data_ptr() == b.data_ptr());
}

EmbeddingTable WeightMap::embedding(const std::string& name, int64_t rows, int64_t width, int64_t padding) {
  const std::string path = prefix_ + name + ".weight";
  if (!archive_.holds_code())
    return EmbeddingTable(path, take(name + ".weight", {rows, width}, /*widen=*/false),
                          LookupOptions{.padding = padding});
  if (!lookups_) lookups_ = table_lookups(archive_of(archive_, "how tables are looked up"));
  const auto lookups = archive_.has(path) ? lookups_->find(archive_.tensor(path).const_data_ptr()) : lookups_->end();
  return EmbeddingTable(path, take(name + ".weight", {rows, width}, /*widen=*/false),
                        lookups == lookups_->end() ? LookupOptions{} : lookups->second);
}

void WeightMap::finish(const std::string& family, const std::vector<std::string>& may_stay) const {
  Errors errors = errors_;
  const auto own = own_head_of(archive_);  // which stands on the family's model, not in it
  for (const auto& [name, value] : archive_.tensors()) {
    if (name.rfind(prefix_, 0) != 0 || used_.count(name) || !value.is_floating_point()) continue;
    if (own && (name == own->module + ".weight" || name == own->module + ".bias")) continue;
    bool known = false;
    for (const auto& allowed : may_stay)
      known |=
          name.rfind(prefix_ + allowed, 0) == 0 || glob_matches(allowed, std::string_view(name).substr(prefix_.size()));
    if (!known) errors.add("unexpected ", name);
  }
  errors.throw_if_any(cat("model ", archive_.file().string(), " does not fit the family ", family));
}

std::optional<std::string> WeightMap::prefix_of(const ModelFiles& archive, const std::string& name) {
  for (const auto& [path, unused] : archive.tensors())
    if (path == name || (path.size() > name.size() && path.ends_with("." + name)))
      return path.substr(0, path.size() - name.size());
  return std::nullopt;
}

}  // namespace deeplora
