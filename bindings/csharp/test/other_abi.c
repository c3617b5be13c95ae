/* A libflexq.so.0 of another ABI version, which the loader must refuse. */
#include <stdint.h>

__attribute__((visibility("default"))) int32_t flexq_abi_version(void);
int32_t flexq_abi_version(void) {
  return 999;
}
