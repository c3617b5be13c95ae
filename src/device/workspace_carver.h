// Lays out arrays in one block. The same calls, without a block, add up what it must hold: so that
// a plan cannot differ from what is used.
#pragma once

#include <cstdint>

#include "base/checked.h"

namespace flexq {

class WorkspaceCarver {
 public:
  // alignment of every array: a power of two. base null: only sizes are added up.
  WorkspaceCarver(uint8_t* base, int64_t alignment) : base_(base), alignment_(alignment) {}

  template <typename T>
  void take(T*& pointer, int64_t rows, int64_t cols) {
    const int64_t offset = used_.value();
    used_.add(CheckedSize(rows).mul(cols).mul(sizeof(T)).value()).align_up(alignment_);
    if (base_ != nullptr && used_.valid()) pointer = reinterpret_cast<T*>(base_ + offset);
  }
  const CheckedSize& used() const { return used_; }

 private:
  uint8_t* base_;
  int64_t alignment_;
  CheckedSize used_{0};
};

}  // namespace flexq
