#include "report/axis.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <set>

#include "core/error.h"

namespace deeplora {
namespace {

/// "1.50e+06" as "1.50e6".
std::string short_exponent(std::string text) {
  const size_t e = text.find('e');
  if (e == std::string::npos) return text;
  size_t digits = e + 1;
  const bool negative = text[digits] == '-';
  while (digits < text.size() && (text[digits] == '+' || text[digits] == '-' || text[digits] == '0')) ++digits;
  return cat(text.substr(0, e + 1), negative ? "-" : "", text.substr(digits));
}

std::string formatted(const char* format, int precision, double value) {
  char text[400];
  std::snprintf(text, sizeof(text), format, precision, value);
  return short_exponent(text);
}

/// The one of 1, 2, 5, 10 times a power of ten that is nearest to `value` on a logarithmic scale.
long double nice_step(long double value) {
  const long double power = std::pow(10.0L, std::floor(std::log10(value)));
  const long double factor = value / power;
  return power * (factor < std::sqrt(2.0L) ? 1 : factor < std::sqrt(10.0L) ? 2 : factor < std::sqrt(50.0L) ? 5 : 10);
}

/// A number without the zeros behind its decimal point: "0.50" as "0.5", "1.0e300" as "1e300".
std::string without_trailing_zeros(std::string text) {
  const size_t point = text.find('.'), end = std::min(text.find('e'), text.size());
  if (point == std::string::npos) return text;
  size_t last = end;
  while (text[last - 1] == '0') --last;
  if (last == point + 1) last = point;
  return text.erase(last, end - last);
}

/// As many decimals as the step needs, the same for all ticks; powers of ten where the digits would not fit.
std::string tick_label(double value, double step, double largest) {
  if (value == 0) return "0";
  const int place = static_cast<int>(std::floor(std::log10(step) + 1e-9));
  const int digits = static_cast<int>(std::floor(std::log10(largest))) + 1;
  if (largest >= 1e-3 && (largest < 1e6 || (step < 100 && digits - place < 12)))
    return formatted("%.*f", std::max(0, -place), value);
  const int first = static_cast<int>(std::floor(std::log10(std::abs(value)) + 1e-9));
  return without_trailing_zeros(formatted("%.*e", std::clamp(first - place, 0, 15), value));
}

}  // namespace

std::string number_text(double value, int digits) {
  if (std::isnan(value)) return "undefined";
  if (std::isinf(value)) return value > 0 ? "infinite" : "-infinite";
  if (value == 0) return "0";  // a rounded difference may be -0
  const double size = std::abs(value);
  // Whole numbers keep all their digits: steps and parameter counts are exact.
  if (size < 1e15 && value == std::floor(value)) return formatted("%.*f", 0, value);
  if (size >= 1e6 || size < 1e-4) {
    return formatted("%.*g", digits, value);
  }
  const int place = static_cast<int>(std::floor(std::log10(size)));
  return without_trailing_zeros(formatted("%.*f", std::max(0, digits - 1 - place), value));
}

Axis::Axis(std::span<const double> values, const AxisOptions& options) : log_(options.log) {
  span(values, options);
  if (empty_) return;
  if (options.at_values && add_ticks_at(values)) return;
  if (log_) {
    add_log_ticks(options.ticks);
    return;
  }
  const bool whole =
      std::all_of(values.begin(), values.end(), [&](double v) { return !can_show(v) || v == std::floor(v); });
  add_linear_ticks(options.ticks, whole);
}

bool Axis::can_show(double value) const { return std::isfinite(value) && (!log_ || value > 0); }

void Axis::span(std::span<const double> values, const AxisOptions& options) {
  bool whole = true;
  for (const double value : values) {
    if (!can_show(value)) continue;
    low_ = empty_ ? value : std::min(low_, value);
    high_ = empty_ ? value : std::max(high_, value);
    whole = whole && value == std::floor(value);
    empty_ = false;
  }
  if (empty_) return;
  if (log_) {
    // Differences of logarithms: the ratio of two finite doubles may overflow.
    double decades = std::log10(high_) - std::log10(low_);
    if (decades < 1e-9) low_ /= 3, high_ *= 3, decades = std::log10(9.0);
    const double free = std::pow(10.0, std::min(decades * options.padding, 300.0));
    if (low_ / free > 0) low_ /= free;
    if (std::isfinite(high_ * free)) high_ *= free;
    return;
  }
  if (options.from_zero) low_ = std::min(low_, 0.0), high_ = std::max(high_, 0.0);
  const double largest = std::max(std::abs(low_), std::abs(high_));
  if (static_cast<long double>(high_) - low_ <= 1e-9L * largest) {
    const double widen = largest == 0 || (whole && largest < 1e6) ? 1 : largest * 0.1;
    low_ -= widen;
    high_ += widen;
    return;
  }
  constexpr long double kLargest = std::numeric_limits<double>::max();
  const long double free = (static_cast<long double>(high_) - low_) * options.padding;
  // Bars stand on the axis: no room below zero.
  if (!(options.from_zero && low_ == 0)) low_ = static_cast<double>(std::max(low_ - free, -kLargest));
  if (!(options.from_zero && high_ == 0)) high_ = static_cast<double>(std::min(high_ + free, kLargest));
}

double Axis::position(double value) const {
  if (log_) return (std::log(value) - std::log(low_)) / (std::log(high_) - std::log(low_));
  // long double: the span of two finite doubles may overflow a double.
  const long double span = static_cast<long double>(high_) - low_;
  return static_cast<double>((static_cast<long double>(value) - low_) / span);
}

bool Axis::add_ticks_at(std::span<const double> values) {
  std::set<double> distinct;
  for (const double value : values)
    if (can_show(value)) distinct.insert(value);
  if (distinct.size() < 2 || distinct.size() > 8) return false;
  for (const double value : distinct) ticks_.push_back({value, number_text(value, 3)});
  return true;
}

void Axis::add_linear_ticks(int count, bool whole) {
  const long double span = static_cast<long double>(high_) - low_;
  long double step = nice_step(span / count);
  if (whole) step = std::max(step, 1.0L);
  const double largest = std::max(std::abs(low_), std::abs(high_));
  // Multiples of a whole number keep 0.1 + 0.2 from becoming 0.30000000000000004.
  for (long double k = std::ceil(low_ / step - 1e-9L); k <= std::floor(high_ / step + 1e-9L); ++k) {
    const auto value = static_cast<double>(k * step);
    ticks_.push_back({value, tick_label(value, static_cast<double>(step), largest)});
  }
}

void Axis::add_log_ticks(int count) {
  const double first = std::floor(std::log10(low_)), last = std::ceil(std::log10(high_));
  const double decades = std::log10(high_) - std::log10(low_);
  const double stride = std::max(1.0, std::ceil(decades / count));
  const std::vector<double> factors = decades < 3 ? std::vector<double>{1, 2, 5} : std::vector<double>{1};
  // Powers are multiples of the stride, so that 1 is a tick wherever it is in sight.
  for (double power = std::floor(first / stride) * stride; power <= last; power += stride)
    for (const double factor : factors) {
      const double value = factor * std::pow(10.0, power);
      if (value >= low_ * (1 - 1e-9) && value <= high_ * (1 + 1e-9)) ticks_.push_back({value, number_text(value, 3)});
    }
  if (ticks_.size() < 3) {
    ticks_.clear();
    add_linear_ticks(count, false);
  }
}

}  // namespace deeplora
