// Work inside a parallel_for must not throw; this turns a container's std::bad_alloc into a status.
#pragma once

#include <new>

#include "base/status.h"

namespace flexq {

// `work` returns Status; `what` is a string literal that names it in the message.
template <typename Work>
Status guard_memory(const char* what, Work&& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory(what, 0);
  }
}

}  // namespace flexq
