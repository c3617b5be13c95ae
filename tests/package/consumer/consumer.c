/* Says which library it runs with; header and library must be of the same ABI. */
#include <flexq.h>
#include <stdio.h>

int main(void) {
  printf("%s\n", flexq_build_info());
  return flexq_abi_version() == FLEXQ_ABI_VERSION ? 0 : 1;
}
