#include "factorization/chain_linear.h"

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

#include <numeric>

#include "factorization/few_rows.h"
#include "factorization/products.h"

namespace deeplora {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Casts are ours to choose below.
using NoAutocast = c10::impl::ExcludeDispatchKeyGuard;

torch::Tensor flat(const torch::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

/// The layers' sizes, kept between the passes. Every layer has depths[i] factors (0: no update).
struct Layers {
  std::vector<int64_t> outs, depths;
  std::vector<double> scales;
  bool split = true;  ///< one output for each layer, not one for all

  size_t count() const { return outs.size(); }
  int64_t out() const { return std::accumulate(outs.begin(), outs.end(), int64_t{0}); }
  int64_t factors() const { return std::accumulate(depths.begin(), depths.end(), int64_t{0}); }

  void keep(AutogradContext* ctx) const {
    ctx->saved_data["outs"] = outs;
    ctx->saved_data["depths"] = depths;
    ctx->saved_data["scales"] = scales;
    ctx->saved_data["split"] = split;
  }
  static Layers kept(AutogradContext* ctx) {
    return {ctx->saved_data["outs"].toIntVector(), ctx->saved_data["depths"].toIntVector(),
            ctx->saved_data["scales"].toDoubleVector(), ctx->saved_data["split"].toBool()};
  }

  /// Calls visit(layer, number of its first factor, first column of y, first column of the joined first products).
  template <class Visit>
  void each(at::TensorList factors, const Visit& visit) const {
    int64_t factor = 0, column = 0, narrow_column = 0;
    for (size_t i = 0; i < count(); ++i) {
      if (depths[i] > 0) visit(i, static_cast<size_t>(factor), column, narrow_column);
      column += outs[i];
      if (depths[i] > 1) narrow_column += factors[static_cast<size_t>(factor)].size(0);
      factor += depths[i];
    }
  }

  /// The first factors of the chains that have more than one, [sum d_1, n]; undefined where there are none. A chain of
  /// one factor is a full-width update that nothing is gained by joining.
  torch::Tensor joined_first(at::TensorList factors, const ProductTypes& types) const {
    std::vector<torch::Tensor> firsts;
    each(factors, [&](size_t i, size_t f, int64_t, int64_t) {
      if (depths[i] > 1) firsts.push_back(types.narrowed(factors[f]));
    });
    if (firsts.empty()) return {};
    return firsts.size() == 1 ? firsts.front() : at::cat(firsts);
  }
};

/// Parts of a weight that are no tensors, kept between the passes.
struct KeptLines : torch::CustomClassHolder {
  explicit KeptLines(FrozenMatrix::Lines all) : lines(std::move(all)) {}
  FrozenMatrix::Lines lines;
};

void keep_lines(AutogradContext* ctx, const FrozenMatrix& weight) {
  if (!weight.quantized.empty())
    ctx->saved_data["lines"] = c10::IValue::make_capsule(c10::make_intrusive<KeptLines>(weight.quantized));
}
FrozenMatrix::Lines kept_lines(AutogradContext* ctx) {
  const auto found = ctx->saved_data.find("lines");
  if (found == ctx->saved_data.end()) return {};
  return c10::static_intrusive_pointer_cast<KeptLines>(found->second.toCapsule())->lines;
}

/// What a gate makes of its input is half of it: computed again on the way back, it need not be kept.
bool is_made_again(InputFunction function) { return is_gate(function); }

/// Saved in this order: what the weight needs on the way back, factors, what the layer multiplies (undefined where no
/// factor needs it, or where it is made again), of every chain its products behind the second factor and beyond, and x
/// itself where a function stands before the layer.
class ChainLinear : public torch::autograd::Function<ChainLinear> {
 public:
  static variable_list forward(AutogradContext* ctx, const torch::Tensor& x, at::TensorList factors,
                               const FrozenMatrix& weight, const std::optional<torch::Tensor>& bias,
                               const Layers& layers, const ProductTypes& types, InputFunction function) {
    const NoAutocast guard(c10::autocast_dispatch_keyset);
    // Rounded before the gate, so that what is made again is the same.
    const torch::Tensor before = is_made_again(function) ? rounded_to(flat(x), types.operand) : flat(x);
    const torch::Tensor input = applied(function, before, types.operand), shift = bias ? *bias : torch::Tensor();
    torch::Tensor y = weight.product(types, input, shift);
    const torch::Tensor first = layers.joined_first(factors, types);
    const torch::Tensor narrow = first.defined() ? types.narrowed(types.product(input, first.t())) : torch::Tensor();
    variable_list saved = weight.for_way_back();
    keep_lines(ctx, weight);
    ctx->saved_data["parts"] = static_cast<int64_t>(saved.size());
    saved.insert(saved.end(), factors.begin(), factors.end());
    saved.push_back(factors.empty() || is_made_again(function) ? torch::Tensor() : input);
    layers.each(factors, [&](size_t i, size_t f, int64_t column, int64_t narrow_column) {
      const auto depth = static_cast<size_t>(layers.depths[i]);
      torch::Tensor hidden = depth > 1 ? narrow.narrow(1, narrow_column, factors[f].size(0)) : input;
      for (size_t k = 1; k < depth; ++k) {
        saved.push_back(hidden);
        if (k + 1 < depth) hidden = types.narrowed(types.product(hidden, types.narrowed(factors[f + k]).t()));
      }
      torch::Tensor part = y.narrow(1, column, layers.outs[i]);
      types.add_product(part, hidden, types.narrowed(factors[f + depth - 1]).t(), layers.scales[i]);
    });
    if (function != InputFunction::identity) saved.push_back(before);
    ctx->save_for_backward(saved);
    ctx->saved_data["function"] = static_cast<int64_t>(function);
    layers.keep(ctx);
    ctx->saved_data["rows"] = y.size(0);
    ctx->saved_data["shape"] = x.sizes();
    ctx->saved_data["input_dtype"] = static_cast<int64_t>(x.scalar_type());
    ctx->saved_data["operand_dtype"] = static_cast<int64_t>(types.operand);
    ctx->saved_data["result_dtype"] = static_cast<int64_t>(types.result);
    return outputs(y, layers, x.sizes().vec());
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const NoAutocast guard(c10::autocast_dispatch_keyset);
    variable_list saved = ctx->get_saved_variables();
    const Layers layers = Layers::kept(ctx);
    const auto parts = static_cast<ptrdiff_t>(ctx->saved_data["parts"].toInt());
    const FrozenMatrix weight = FrozenMatrix::of_way_back({saved.begin(), saved.begin() + parts}, kept_lines(ctx));
    const auto device = parts > 0 ? saved.front().device() : torch::Device(torch::kCPU);
    saved.erase(saved.begin(), saved.begin() + parts);
    const at::TensorList factors(saved.data(), static_cast<size_t>(layers.factors()));
    const ProductTypes types{static_cast<at::ScalarType>(ctx->saved_data["operand_dtype"].toInt()),
                             static_cast<at::ScalarType>(ctx->saved_data["result_dtype"].toInt())};
    const auto function = static_cast<InputFunction>(ctx->saved_data["function"].toInt());
    const torch::Tensor input = !factors.empty() && is_made_again(function)
                                    ? applied(function, saved.back(), types.operand)
                                    : saved[factors.size()];
    const auto options = torch::TensorOptions(device).dtype(types.result);
    const torch::Tensor g =
        types.narrowed(joined_gradient(gradients, layers, ctx->saved_data["rows"].toInt(), options));
    variable_list out(1 + factors.size() + 5);  // x, factors, then what is frozen or no tensor
    const torch::Tensor first = layers.joined_first(factors, types);
    torch::Tensor d;  // of x W_1^T
    if (first.defined()) d = torch::empty({g.size(0), first.size(0)}, options);
    size_t next_hidden = 1 + factors.size();
    bool firsts_train = false;
    layers.each(factors, [&](size_t i, size_t f, int64_t column, int64_t narrow_column) {
      const auto depth = static_cast<size_t>(layers.depths[i]);
      const torch::Tensor* hidden = saved.data() + next_hidden - 1;  // hidden[k]: what factor k reads, k >= 1
      next_hidden += depth - 1;
      torch::Tensor down = g.narrow(1, column, layers.outs[i]);
      for (size_t k = depth; k-- > 0;) {
        const double scale = k + 1 == depth ? layers.scales[i] : 1.0;
        const bool trains = ctx->needs_input_grad(1 + f + k);
        if (k == 0 && depth > 1) {
          firsts_train |= trains;
          break;
        }
        if (trains) {
          torch::Tensor product = torch::empty(factors[f + k].sizes(), options);
          types.product_into(product, down.t(), k == 0 ? input : hidden[k], scale);
          out[1 + f + k] = product.to(factors[f + k].scalar_type());
        }
        if (k == 0) break;
        const torch::Tensor factor = types.narrowed(factors[f + k]);
        torch::Tensor below = k == 1 ? d.narrow(1, narrow_column, factors[f].size(0))
                                     : torch::empty({g.size(0), factor.size(1)}, options);
        types.product_into(below, down, factor, scale);
        if (k > 1) down = types.narrowed(below);
      }
    });
    const torch::Tensor narrow = d.defined() ? types.narrowed(d) : d;
    if (firsts_train) {
      const torch::Tensor joined = types.product(narrow.t(), input);
      layers.each(factors, [&](size_t i, size_t f, int64_t, int64_t narrow_column) {
        if (layers.depths[i] > 1 && ctx->needs_input_grad(1 + f))
          out[1 + f] = joined.narrow(0, narrow_column, factors[f].size(0)).to(factors[f].scalar_type());
      });
    }
    if (ctx->needs_input_grad(0)) {
      torch::Tensor gx = weight.product_back(types, g);
      if (first.defined()) types.add_product(gx, narrow, first);
      layers.each(factors, [&](size_t i, size_t f, int64_t column, int64_t) {
        if (layers.depths[i] == 1)
          types.add_product(gx, g.narrow(1, column, layers.outs[i]), types.narrowed(factors[f]), layers.scales[i]);
      });
      gx = gradient_before(function, gx, saved.back());
      out[0] = gx.view(ctx->saved_data["shape"].toIntVector())
                   .to(static_cast<at::ScalarType>(ctx->saved_data["input_dtype"].toInt()));
    }
    return out;
  }

 private:
  static variable_list outputs(const torch::Tensor& y, const Layers& layers, std::vector<int64_t> shape) {
    shape.back() = y.size(1);
    // No views in autograd's eyes: those of a function like this must not be changed in place, which a model's own code
    // may do, and each of several would be answered with a full-width gradient of zeros.
    const torch::Tensor whole = at::_unsafe_view(y, shape);
    if (layers.count() == 1 || !layers.split) return {whole};
    return at::unsafe_split_with_sizes(whole, layers.outs, -1);
  }

  /// [N, sum m_i]; a layer whose output was not used counts as zeros.
  static torch::Tensor joined_gradient(const variable_list& gradients, const Layers& layers, int64_t rows,
                                       const torch::TensorOptions& options) {
    std::vector<torch::Tensor> parts;
    for (size_t i = 0; i < gradients.size(); ++i)
      parts.push_back(gradients[i].defined()
                          ? flat(gradients[i])
                          : torch::zeros({rows, layers.split ? layers.outs[i] : layers.out()}, options));
    return side_by_side(parts);
  }
};

variable_list apply_chains(const torch::Tensor& x, const FrozenMatrix& weight, const torch::Tensor& bias,
                           const std::vector<ChainLayer>& layers, InputFunction function, bool split) {
  Layers sizes;
  sizes.split = split;
  variable_list factors;
  for (const auto& layer : layers) {
    sizes.outs.push_back(layer.out);
    sizes.depths.push_back(static_cast<int64_t>(layer.update.factors.size()));
    sizes.scales.push_back(layer.update.scale);
    factors.insert(factors.end(), layer.update.factors.begin(), layer.update.factors.end());
  }
  return ChainLinear::apply(x, at::TensorList(factors), weight, bias.defined() ? std::optional(bias) : std::nullopt,
                            sizes, ProductTypes::of(x), function);
}

}  // namespace

torch::Tensor side_by_side(const std::vector<torch::Tensor>& parts) {
  if (parts.size() == 1) return parts.front();
  int64_t width = 0, offset = parts.front().storage_offset();
  for (const auto& part : parts) width += part.size(1);
  bool adjacent = true;
  for (const auto& part : parts) {
    adjacent = adjacent && part.is_alias_of(parts.front()) && part.stride(0) == width && part.stride(1) == 1 &&
               part.storage_offset() == offset;
    offset += part.size(1);
  }
  return adjacent ? parts.front().as_strided({parts.front().size(0), width}, {width, 1}) : at::cat(parts, 1);
}

bool can_fuse_chain(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                    const std::vector<torch::Tensor>& factors) {
  if (weight.requires_grad() || (bias.defined() && bias.requires_grad()) || x.dim() < 2 || x.numel() == 0) return false;
  if (at::autocast::is_autocast_enabled(x.device().type()))
    return x.is_floating_point() && x.scalar_type() != torch::kFloat64;
  for (const auto& factor : factors)
    if (factor.scalar_type() != x.scalar_type()) return false;
  return (weight.scalar_type() == x.scalar_type() || (is_half(weight) && x.scalar_type() == torch::kFloat32)) &&
         (!bias.defined() || bias.scalar_type() == x.scalar_type());
}

std::vector<torch::Tensor> linear_with_chains(const torch::Tensor& x, const FrozenMatrix& weight,
                                              const torch::Tensor& bias, const std::vector<ChainLayer>& layers,
                                              InputFunction function) {
  return apply_chains(x, weight, bias, layers, function, /*split=*/true);
}

torch::Tensor linear_with_chains_as_one(const torch::Tensor& x, const FrozenMatrix& weight, const torch::Tensor& bias,
                                        const std::vector<ChainLayer>& layers) {
  return apply_chains(x, weight, bias, layers, InputFunction::identity, /*split=*/false).front();
}

torch::Tensor linear_with_chain(const torch::Tensor& x, const FrozenMatrix& weight, const torch::Tensor& bias,
                                const std::vector<torch::Tensor>& factors, double scale) {
  return linear_with_chains(x, weight, bias, {{weight.rows(), {factors, scale}}}).front();
}

torch::Tensor frozen_linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias) {
  const bool autocast = at::autocast::is_autocast_enabled(x.device().type());
  // Of a row or a few, reading the weight is all the work, and LibTorch's product may do it twice.
  const bool few = x.dim() > 1 && x.device().is_cpu() && x.numel() <= kFewRows * x.size(-1);
  if (!autocast && x.scalar_type() == torch::kFloat32 && (few || is_half(weight)) &&
      can_fuse_chain(x, weight, bias, {}))
    return linear_with_chain(x, weight, bias, {}, 1);
  if (autocast || weight.scalar_type() == x.scalar_type()) return at::linear(x, weight, bias);
  return at::linear(x, weight.to(x.scalar_type()), bias.defined() ? bias.to(x.scalar_type()) : bias);
}

}  // namespace deeplora
