// One axis of a chart: which range it spans, where its ticks stand and how they are written.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace deeplora {

struct Tick {
  double value = 0;
  std::string label;
};

struct AxisOptions {
  bool log = false;        ///< base 10; values that are not positive cannot be shown
  bool from_zero = false;  ///< the range holds 0, as bars need (linear axes only)
  double padding = 0;      ///< share of the range left free at both ends
  int ticks = 5;           ///< about so many
  bool at_values = false;  ///< ticks stand at the values themselves where there are 2 to 8 different ones
};

/// Maps values to [0, 1]. A range of one value (or of rounding noise) is widened, so that a constant looks
/// constant.
class Axis {
 public:
  /// Spans the finite ones among `values`; with none of them empty() holds and the range is [0, 1].
  Axis(std::span<const double> values, const AxisOptions& options);

  bool empty() const { return empty_; }
  /// Finite, and positive on a logarithmic axis.
  bool can_show(double value) const;
  /// 0 at the low end, 1 at the high end.
  double position(double value) const;
  const std::vector<Tick>& ticks() const { return ticks_; }
  double low() const { return low_; }
  double high() const { return high_; }

 private:
  void span(std::span<const double> values, const AxisOptions& options);
  bool add_ticks_at(std::span<const double> values);
  void add_linear_ticks(int count, bool whole);
  void add_log_ticks(int count);

  bool log_ = false, empty_ = true;
  double low_ = 0, high_ = 1;
  std::vector<Tick> ticks_;
};

/// A number for people: `digits` significant digits, no trailing zeros, "1.5e6" and "2e-5" beyond six places,
/// "undefined" for NaN.
std::string number_text(double value, int digits = 4);

}  // namespace deeplora
