#!/bin/bash
# libflexq_cuda.so exports its one entry and nothing else, and can be opened on a machine without a
# CUDA driver or toolkit: both would be needed by name otherwise.
#   cuda_backend_symbols.sh LIBRARY
set -euo pipefail
library=$1
exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sort -u)
needed=$(readelf --dynamic "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
echo "exported: $exported"
echo "needed: $(tr '\n' ' ' <<<"$needed")"
[ "$exported" = flexq_cuda_backend ]
! grep -E '^lib(cuda|cudart|nv)' <<<"$needed"
