// Chooses a kernel table by what this processor can do.
#include <string_view>

#include "kernels/cpu/cpu_kernels.h"
#ifdef FLEXQ_WITH_AVX2
#include <cpuid.h>

#include "kernels/cpu/avx2_table.h"
#endif

namespace flexq {

#ifdef FLEXQ_WITH_AVX2
namespace {

bool processor_has_f16c() {  // clang 14 does not know the name in __builtin_cpu_supports
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

}  // namespace

const CpuKernels* avx2_kernels() {
  // For "avx2" the builtin also asks whether the operating system saves the wide registers.
  const bool supported =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && processor_has_f16c();
  return supported ? &avx2::kTable : nullptr;
}
#else
const CpuKernels* avx2_kernels() {
  return nullptr;
}
#endif

const CpuKernels* select_cpu_kernels(const char* forced) {
  const CpuKernels* portable = &portable_kernels();
  const CpuKernels* avx2 = avx2_kernels();
  if (forced == nullptr) return avx2 != nullptr ? avx2 : portable;
  for (const CpuKernels* table : {avx2, portable}) {
    if (table != nullptr && std::string_view(table->name) == forced) return table;
  }
  return nullptr;
}

}  // namespace flexq
