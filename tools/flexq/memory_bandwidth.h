// The speed limit of decoding: how fast this machine reads memory.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

namespace flexq_tool {

// Owns 1 GiB of integers that n_threads threads sum together.
class ReadBandwidth {
 public:
  explicit ReadBandwidth(int32_t n_threads);

  // Bytes per second of one pass over all of it, the best of three. Taken around what is compared
  // with it, since others may use the machine's memory too.
  double sample() const;

 private:
  struct Freed {
    void operator()(uint64_t* words) const { std::free(words); }
  };
  // Calls body(first word, lines) for each thread's part, all at once.
  template <typename Body>
  double for_parts(Body body) const;

  int32_t n_threads_;
  std::unique_ptr<uint64_t[], Freed> words_;
};

}  // namespace flexq_tool
