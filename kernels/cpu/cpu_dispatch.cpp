// Chooses a kernel table by what this processor can do.
#include <array>
#include <iterator>
#include <string_view>

#include "kernels/cpu/cpu_kernels.h"
#ifdef FLEXQ_WITH_X86_KERNELS
#include <cpuid.h>

#include "kernels/cpu/avx2_table.h"
#include "kernels/cpu/avx512_table.h"
#include "kernels/cpu/avxvnni_table.h"
#endif

namespace flexq {
namespace {

#ifdef FLEXQ_WITH_X86_KERNELS

// Two bits that clang 14 cannot ask __builtin_cpu_supports for. Asked for once: in a virtual
// machine CPUID is a trap into the hypervisor.
bool processor_has_f16c() {
  static const bool has_f16c = [] {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
  }();
  return has_f16c;
}
bool processor_has_avxvnni() {
  constexpr unsigned kAvxVnniBit = 1u << 4;  // leaf 7, subleaf 1, eax
  static const bool has_avxvnni = [] {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & kAvxVnniBit) != 0;
  }();
  return has_avxvnni;
}

// For these names the builtin also asks whether the operating system saves the wide registers.
const CpuKernels* avx2_kernels() {
  const bool supported =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && processor_has_f16c();
  return supported ? &avx2::kTable : nullptr;
}

const CpuKernels* avxvnni_kernels() {
  if (avx2_kernels() == nullptr || !processor_has_avxvnni()) return nullptr;
  static const CpuKernels table = [] {
    CpuKernels kernels = avx2::kTable;
    kernels.name = "avxvnni";
    kernels.linear_w6_int8 = avxvnni::linear_w6_int8;
    kernels.linear_w8_int8 = avxvnni::linear_w8_int8;
    return kernels;
  }();
  return &table;
}

const CpuKernels* avx512vnni_kernels() {
  const bool supported = avx2_kernels() != nullptr && __builtin_cpu_supports("avx512f") &&
                         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
  return supported ? &avx512::kTable : nullptr;
}

#endif

const CpuKernels* portable_table() {
  return &portable_kernels();
}

struct KernelSet {
  const char* name;
  const CpuKernels* (*table)();  // null when this processor cannot run it
};

// Best first.
constexpr KernelSet kSets[] = {
#ifdef FLEXQ_WITH_X86_KERNELS
    {"avx512vnni", avx512vnni_kernels},
    {"avxvnni", avxvnni_kernels},
    {"avx2", avx2_kernels},
#endif
    {"portable", portable_table},
};

}  // namespace

std::span<const char* const> cpu_kernel_names() {
  static const auto names = [] {
    std::array<const char*, std::size(kSets)> result = {};
    for (size_t i = 0; i < result.size(); ++i)
      result[i] = kSets[i].name;
    return result;
  }();
  return names;
}

const CpuKernels* select_cpu_kernels(const char* forced) {
  for (const KernelSet& set : kSets) {
    if (forced != nullptr && std::string_view(set.name) != forced) continue;
    if (const CpuKernels* table = set.table()) return table;
  }
  return nullptr;
}

}  // namespace flexq
