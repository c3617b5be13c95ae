// The only place where sizes that depend on input are computed: every sum and product either fits
// or becomes an error. Learned from CVE-2025-53630 and its bypass (GGUF size sums that wrap).
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <optional>

namespace flexq {

template <std::integral T>
constexpr std::optional<T> checked_add(T a, T b) {
  T sum{};
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

template <std::integral T>
constexpr std::optional<T> checked_mul(T a, T b) {
  T product{};
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

// A running size in bytes or elements that remembers whether anything overflowed. Starts at
// `value`; valid() must be asked before value() is used.
class CheckedSize {
 public:
  constexpr explicit CheckedSize(int64_t value = 0) : value_(value), valid_(value >= 0) {}
  constexpr CheckedSize& add(int64_t other) {
    valid_ = valid_ && other >= 0 && !__builtin_add_overflow(value_, other, &value_);
    return *this;
  }
  constexpr CheckedSize& mul(int64_t other) {
    valid_ = valid_ && other >= 0 && !__builtin_mul_overflow(value_, other, &value_);
    return *this;
  }
  constexpr CheckedSize& align_up(int64_t alignment) {  // alignment: a power of two
    add(alignment - 1);
    value_ &= ~(alignment - 1);
    return *this;
  }
  constexpr bool valid() const { return valid_; }
  constexpr int64_t value() const { return valid_ ? value_ : -1; }

 private:
  int64_t value_;
  bool valid_;
};

// For sizes already bounded by validated limits.
constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return a / b + (a % b != 0 ? 1 : 0);
}
constexpr int64_t align_up(int64_t value, int64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

}  // namespace flexq
