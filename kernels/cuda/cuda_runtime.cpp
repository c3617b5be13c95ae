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

// Every thread raises the limit to the same value, the device's own: a limit of a launch's size
// would be lowered by another thread between here and that launch.
cudaError_t allow_shared_bytes(const void* kernel, int dynamic_shared_bytes) {
  cudaFuncAttributes has = {};
  cudaError_t error = cudaFuncGetAttributes(&has, kernel);
  if (error != cudaSuccess) return error;
  if (has.maxDynamicSharedSizeBytes >= dynamic_shared_bytes &&
      has.preferredShmemCarveout == cudaSharedmemCarveoutMaxShared)
    return cudaSuccess;
  int device = 0;
  error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  int most = 0;
  error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error != cudaSuccess) return error;
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                               cudaSharedmemCarveoutMaxShared);
  if (error != cudaSuccess) return error;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              most - static_cast<int>(has.sharedSizeBytes));
}

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

// Null where the driver has none.
EncodeTiled find_encode_tiled() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found,
                                                             12000, cudaEnableDefault, &result);
#else
  const cudaError_t error =
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result);
#endif
  if (error != cudaSuccess || result != cudaDriverEntryPointSuccess) return nullptr;
  return reinterpret_cast<EncodeTiled>(found);
}

cudaError_t encode_byte_map(CUtensorMap* map, const void* matrix, int64_t n_rows, int64_t row_bytes,
                            int32_t box_rows) {
  static const EncodeTiled encode = find_encode_tiled();
  if (encode == nullptr) return cudaErrorNotSupported;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(row_bytes), static_cast<cuuint64_t>(n_rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(row_bytes)};
  const cuuint32_t box[] = {128, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[] = {1, 1};
  const CUresult result =
      encode(map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<void*>(matrix), sizes, strides, box,
             steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t launch_overlapping(const void* kernel, dim3 grid, dim3 block, uint32_t n_cluster,
                               void** arguments, size_t shared_bytes, cudaStream_t stream) {
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = n_cluster;
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = n_cluster > 1 ? 2 : 1;
  return cudaLaunchKernelExC(&config, kernel, arguments);
}

// Other threads' calls are none of this capture's business.
cudaError_t begin_capture(cudaStream_t stream) {
  return cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
}

cudaError_t instantiate(cudaGraphExec_t* executable, cudaGraph_t graph) {
  return cudaGraphInstantiate(executable, graph, 0);
}

const CudaRuntime runtime = {
    .get_device_count = &cudaGetDeviceCount,
    .driver_get_version = &cudaDriverGetVersion,
    .get_device_properties = &cudaGetDeviceProperties,
    .get_device_attribute = &cudaDeviceGetAttribute,
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
    .allow_shared_bytes = &allow_shared_bytes,
    .get_kernel_attributes = &cudaFuncGetAttributes,
    .encode_byte_map = &encode_byte_map,
    .launch_kernel = &cudaLaunchKernel,
    .launch_overlapping_kernel = &launch_overlapping,
    .stream_begin_capture = &begin_capture,
    .stream_end_capture = &cudaStreamEndCapture,
    .graph_destroy = &cudaGraphDestroy,
    .graph_instantiate = &instantiate,
    .graph_exec_destroy = &cudaGraphExecDestroy,
    .graph_launch = &cudaGraphLaunch,
    .get_last_error = &cudaGetLastError,
    .get_error_name = &cudaGetErrorName,
    .get_error_string = &cudaGetErrorString,
};

}  // namespace

const CudaRuntime& linked_cuda_runtime() {
  return runtime;
}

}  // namespace flexq
