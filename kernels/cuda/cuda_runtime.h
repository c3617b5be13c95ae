// Every function of the CUDA runtime that FlexQ calls, in one table: the one linked in statically,
// or a substitute that makes the k-th call fail. Kernels are launched through it too.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace flexq {

struct CudaRuntime {
  cudaError_t (*get_device_count)(int* count);
  cudaError_t (*driver_get_version)(int* version);
  cudaError_t (*get_device_properties)(cudaDeviceProp* properties, int device);
  cudaError_t (*get_device_attribute)(int* value, cudaDeviceAttr attribute, int device);
  cudaError_t (*set_device)(int device);
  cudaError_t (*mem_get_info)(size_t* free_bytes, size_t* total_bytes);
  cudaError_t (*malloc)(void** memory, size_t bytes);
  cudaError_t (*free)(void* memory);
  cudaError_t (*malloc_host)(void** memory, size_t bytes);  // pinned
  cudaError_t (*free_host)(void* memory);
  cudaError_t (*memcpy_async)(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                              cudaStream_t stream);
  cudaError_t (*memset_async)(void* memory, int byte, size_t bytes, cudaStream_t stream);
  cudaError_t (*stream_create)(cudaStream_t* stream);  // does not wait for the default stream
  cudaError_t (*stream_destroy)(cudaStream_t stream);
  cudaError_t (*stream_synchronize)(cudaStream_t stream);
  cudaError_t (*event_create)(cudaEvent_t* event);
  cudaError_t (*event_destroy)(cudaEvent_t event);
  cudaError_t (*event_record)(cudaEvent_t event, cudaStream_t stream);
  cudaError_t (*event_synchronize)(cudaEvent_t event);
  cudaError_t (*event_elapsed_ms)(float* ms, cudaEvent_t begin, cudaEvent_t end);
  // Lets a kernel have so much dynamic shared memory and more, in all threads. Multiprocessors that
  // run it get as much of it as they can have, so that CTAs of the next kernel find room beside:
  // with just enough for one kernel's, the next one's came late or two on one multiprocessor.
  cudaError_t (*allow_shared_bytes)(const void* kernel, int dynamic_shared_bytes);
  cudaError_t (*get_kernel_attributes)(cudaFuncAttributes* attributes, const void* kernel);
  // A map of an (n_rows, row_bytes) matrix of bytes in device memory for cp.async.bulk.tensor, in
  // boxes of box_rows x 128 bytes with the 128-byte swizzle; rows past the end read as zeros. The
  // driver's function, which is looked up: libcuda is not linked.
  cudaError_t (*encode_byte_map)(CUtensorMap* map, const void* matrix, int64_t n_rows,
                                 int64_t row_bytes, int32_t box_rows);
  cudaError_t (*launch_kernel)(const void* kernel, dim3 grid, dim3 block, void** arguments,
                               size_t shared_bytes, cudaStream_t stream);
  // The kernel may start while the one before it in the stream still runs, and waits for it itself
  // (programmatic_launch.cuh). n_cluster CTAs that follow each other in x, 1 or more, are a
  // cluster. From sm_90 on.
  cudaError_t (*launch_overlapping_kernel)(const void* kernel, dim3 grid, dim3 block,
                                           uint32_t n_cluster, void** arguments,
                                           size_t shared_bytes, cudaStream_t stream);
  // What this thread queues on the stream from begin to end is not run but becomes a graph; null
  // where that failed. The stream is an ordinary one again after every end.
  cudaError_t (*stream_begin_capture)(cudaStream_t stream);
  cudaError_t (*stream_end_capture)(cudaStream_t stream, cudaGraph_t* graph);
  cudaError_t (*graph_destroy)(cudaGraph_t graph);
  cudaError_t (*graph_instantiate)(cudaGraphExec_t* executable, cudaGraph_t graph);
  cudaError_t (*graph_exec_destroy)(cudaGraphExec_t executable);
  cudaError_t (*graph_launch)(cudaGraphExec_t executable, cudaStream_t stream);
  cudaError_t (*get_last_error)();  // also takes back what is not sticky
  const char* (*get_error_name)(cudaError_t error);
  const char* (*get_error_string)(cudaError_t error);
};

// The CUDA runtime linked into this library.
const CudaRuntime& linked_cuda_runtime();

// What kernel launchers need to know about where they launch.
struct CudaLaunch {
  const CudaRuntime* runtime = nullptr;
  cudaStream_t stream = nullptr;
  int32_t sm = 0;     // compute capability: 90 for 9.0
  int32_t n_sms = 0;  // multiprocessors
};

enum class LaunchOrder : bool {
  kAfter,    // starts when the kernel before it has ended
  kOverlaps  // may start earlier where the GPU can: the kernel calls wait_for_kernel_before()
};

// Launches `kernel` with exactly its parameter types. Asks for shared memory beyond 48 KiB first.
// Clusters only where a kernel overlaps and the GPU has them.
template <typename... Params, typename... Args>
cudaError_t launch_in_order(const CudaLaunch& where, LaunchOrder order, uint32_t n_cluster,
                            void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
                            const Args&... args) {
  static_assert(sizeof...(Params) == sizeof...(Args), "one argument for each parameter");
  const auto* entry = reinterpret_cast<const void*>(kernel);
  // What every launch may have is 48 KiB, static shared memory included: 16 KiB of that at most.
  constexpr size_t kUnaskedSharedBytes = 32 * 1024;
  if (shared_bytes > kUnaskedSharedBytes) {
    const cudaError_t error =
        where.runtime->allow_shared_bytes(entry, static_cast<int>(shared_bytes));
    if (error != cudaSuccess) return error;
  }
  const auto call = [&](Params... params) {
    void* arguments[] = {static_cast<void*>(&params)..., nullptr};
    const CudaRuntime& runtime = *where.runtime;
    return order == LaunchOrder::kOverlaps && where.sm >= 90
               ? runtime.launch_overlapping_kernel(entry, grid, block, n_cluster, arguments,
                                                   shared_bytes, where.stream)
               : runtime.launch_kernel(entry, grid, block, arguments, shared_bytes, where.stream);
  };
  return call(static_cast<Params>(args)...);
}

template <typename... Params, typename... Args>
cudaError_t launch(const CudaLaunch& where, void (*kernel)(Params...), dim3 grid, dim3 block,
                   size_t shared_bytes, const Args&... args) {
  return launch_in_order(where, LaunchOrder::kAfter, 1, kernel, grid, block, shared_bytes, args...);
}

// For kernels that call wait_for_kernel_before() ahead of everything that the kernels before it
// write or read.
template <typename... Params, typename... Args>
cudaError_t launch_overlapping(const CudaLaunch& where, void (*kernel)(Params...), dim3 grid,
                               dim3 block, size_t shared_bytes, const Args&... args) {
  return launch_in_order(where, LaunchOrder::kOverlaps, 1, kernel, grid, block, shared_bytes,
                         args...);
}

// The same in clusters of n_cluster CTAs along x.
template <typename... Params, typename... Args>
cudaError_t launch_overlapping_clusters(const CudaLaunch& where, uint32_t n_cluster,
                                        void (*kernel)(Params...), dim3 grid, dim3 block,
                                        size_t shared_bytes, const Args&... args) {
  return launch_in_order(where, LaunchOrder::kOverlaps, n_cluster, kernel, grid, block,
                         shared_bytes, args...);
}

}  // namespace flexq
