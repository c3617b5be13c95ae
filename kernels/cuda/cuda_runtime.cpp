// The one file that calls the CUDA runtime.
#include "kernels/cuda/cuda_runtime.h"

namespace flexq {
namespace {

cudaError_t malloc_pinned(void** memory, size_t bytes) {
  return cudaHostAlloc(memory, bytes, cudaHostAllocDefault);
}

cudaError_t create_stream(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking);
}

cudaError_t set_shared_bytes(const void* kernel, int dynamic_shared_bytes) {
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              dynamic_shared_bytes);
}

const CudaRuntime runtime = {
    .get_device_count = &cudaGetDeviceCount,
    .driver_get_version = &cudaDriverGetVersion,
    .get_device_properties = &cudaGetDeviceProperties,
    .set_device = &cudaSetDevice,
    .mem_get_info = &cudaMemGetInfo,
    .malloc = &cudaMalloc,
    .free = &cudaFree,
    .malloc_host = &malloc_pinned,
    .free_host = &cudaFreeHost,
    .memcpy_async = &cudaMemcpyAsync,
    .memset_async = &cudaMemsetAsync,
    .stream_create = &create_stream,
    .stream_destroy = &cudaStreamDestroy,
    .stream_synchronize = &cudaStreamSynchronize,
    .event_create = &cudaEventCreate,
    .event_destroy = &cudaEventDestroy,
    .event_record = &cudaEventRecord,
    .event_synchronize = &cudaEventSynchronize,
    .event_elapsed_ms = &cudaEventElapsedTime,
    .set_kernel_shared_bytes = &set_shared_bytes,
    .get_kernel_attributes = &cudaFuncGetAttributes,
    .launch_kernel = &cudaLaunchKernel,
    .get_last_error = &cudaGetLastError,
    .get_error_name = &cudaGetErrorName,
    .get_error_string = &cudaGetErrorString,
};

}  // namespace

const CudaRuntime& linked_cuda_runtime() {
  return runtime;
}

}  // namespace flexq
