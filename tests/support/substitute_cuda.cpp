#include "support/substitute_cuda.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <mutex>

namespace flexq::test {
namespace {

// Loading stores rows from several threads.
std::recursive_mutex mutex;

bool is_sticky(cudaError_t error) {
  return error == cudaErrorIllegalAddress || error == cudaErrorLaunchFailure;
}

int64_t sum_of(const std::map<void*, size_t>& blocks) {
  int64_t bytes = 0;
  for (const auto& [memory, size] : blocks)
    bytes += static_cast<int64_t>(size);
  return bytes;
}

// Whether [memory, memory + bytes) lies in one block.
bool inside(const std::map<void*, size_t>& blocks, const void* memory, size_t bytes) {
  auto block = blocks.upper_bound(const_cast<void*>(memory));
  if (block == blocks.begin()) return false;
  --block;
  const auto begin = reinterpret_cast<uintptr_t>(block->first);
  const auto from = reinterpret_cast<uintptr_t>(memory);
  return from + bytes <= begin + block->second;
}

}  // namespace

struct SubstituteCuda::Functions {
  static SubstituteCuda& self() { return instance(); }

  static cudaError_t get_device_count(int* count) {
    const std::lock_guard lock(mutex);
    if (const cudaError_t error = self().enter("get_device_count")) return error;
    *count = self().machine.n_devices;
    return self().machine.start_error;
  }
  static cudaError_t driver_get_version(int* version) {
    const std::lock_guard lock(mutex);
    if (const cudaError_t error = self().enter("driver_get_version")) return error;
    *version = self().machine.driver_version;
    return cudaSuccess;
  }
  static cudaError_t get_device_properties(cudaDeviceProp* properties, int device) {
    const std::lock_guard lock(mutex);
    if (const cudaError_t error = self().enter("get_device_properties")) return error;
    *properties = {};
    snprintf(properties->name, sizeof properties->name, "Substitute %d", device);
    properties->major = self().machine.sm / 10;
    properties->minor = self().machine.sm % 10;
    properties->multiProcessorCount = 132;
    properties->totalGlobalMem = static_cast<size_t>(self().machine.memory_bytes);
    return cudaSuccess;
  }
  static cudaError_t get_device_attribute(int* value, cudaDeviceAttr, int) {
    const std::lock_guard lock(mutex);
    *value = 1000000;
    return self().enter("get_device_attribute");
  }
  static cudaError_t set_device(int) {
    const std::lock_guard lock(mutex);
    return self().enter("set_device");
  }
  static cudaError_t mem_get_info(size_t* free_bytes, size_t* total_bytes) {
    const std::lock_guard lock(mutex);
    if (const cudaError_t error = self().enter("mem_get_info")) return error;
    *total_bytes = static_cast<size_t>(self().machine.memory_bytes);
    *free_bytes = *total_bytes - static_cast<size_t>(sum_of(self().device_));
    return cudaSuccess;
  }
  static cudaError_t allocate(const char* name, std::map<void*, size_t>& blocks, void** memory,
                              size_t bytes) {
    if (const cudaError_t error = self().enter(name)) return error;
    void* block = nullptr;
    if (posix_memalign(&block, 256, bytes) != 0) return cudaErrorMemoryAllocation;
    // Zeros: flags of rows that are not finite say so only where a kernel wrote them.
    memset(block, 0, bytes);
    blocks[block] = bytes;
    *memory = block;
    return cudaSuccess;
  }
  static cudaError_t release(const char* name, std::map<void*, size_t>& blocks, void* memory) {
    const cudaError_t error = self().enter(name);
    if (blocks.erase(memory) == 0) {
      self().report_misuse(name);
    } else {
      std::free(memory);
    }
    return error;
  }
  static cudaError_t malloc(void** memory, size_t bytes) {
    const std::lock_guard lock(mutex);
    if (sum_of(self().device_) + static_cast<int64_t>(bytes) > self().machine.memory_bytes) {
      const cudaError_t error = self().enter("malloc");
      return error != cudaSuccess ? error : cudaErrorMemoryAllocation;
    }
    return allocate("malloc", self().device_, memory, bytes);
  }
  static cudaError_t free(void* memory) {
    const std::lock_guard lock(mutex);
    return release("free", self().device_, memory);
  }
  static cudaError_t malloc_host(void** memory, size_t bytes) {
    const std::lock_guard lock(mutex);
    return allocate("malloc_host", self().pinned_, memory, bytes);
  }
  static cudaError_t free_host(void* memory) {
    const std::lock_guard lock(mutex);
    return release("free_host", self().pinned_, memory);
  }
  static cudaError_t memcpy_async(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                                  cudaStream_t stream) {
    const std::lock_guard lock(mutex);
    if (const cudaError_t error = self().enter("memcpy_async")) return error;
    const bool to_host = kind == cudaMemcpyDeviceToHost;
    const bool from_host = kind == cudaMemcpyHostToDevice;
    if (self().streams_.count(stream) == 0) {
      self().report_misuse("memcpy_async");
      return cudaErrorInvalidValue;
    }
    // Pageable memory is read or written before the call returns, which no capture can do.
    const void* host = to_host ? to : from_host ? from : nullptr;
    const bool pageable = host != nullptr && !inside(self().pinned_, host, bytes) &&
                          self().capturing_.count(stream) == 0;
    return self().queue(stream, [=] {
      const bool to_is_good = to_host ? pageable || inside(self().pinned_, to, bytes)
                                      : inside(self().device_, to, bytes);
      const bool from_is_good = from_host ? pageable || inside(self().pinned_, from, bytes)
                                          : inside(self().device_, from, bytes);
      if (!to_is_good || !from_is_good) {
        self().report_misuse("memcpy_async");
        return cudaErrorInvalidValue;
      }
      memmove(to, from, bytes);
      return cudaSuccess;
    });
  }
  static cudaError_t memset_async(void* memory, int byte, size_t bytes, cudaStream_t stream) {
    const std::lock_guard lock(mutex);
    if (const cudaError_t error = self().enter("memset_async")) return error;
    if (!inside(self().device_, memory, bytes) || self().streams_.count(stream) == 0) {
      self().report_misuse("memset_async");
      return cudaErrorInvalidValue;
    }
    return self().queue(stream, [=] {
      memset(memory, byte, bytes);
      return cudaSuccess;
    });
  }
  template <typename Handle>
  static cudaError_t make(const char* name, std::map<void*, char>& handles, Handle* handle) {
    if (const cudaError_t error = self().enter(name)) return error;
    void* made = std::malloc(1);
    handles[made] = 0;
    *handle = static_cast<Handle>(made);
    return cudaSuccess;
  }
  static cudaError_t end(const char* name, std::map<void*, char>& handles, void* handle) {
    const cudaError_t error = self().enter(name);
    if (handles.erase(handle) == 0) {
      self().report_misuse(name);
    } else {
      std::free(handle);
    }
    return error;
  }
  static cudaError_t use(const char* name, const std::map<void*, char>& handles, void* handle) {
    if (const cudaError_t error = self().enter(name)) return error;
    if (handles.count(handle) == 0) self().report_misuse(name);
    return cudaSuccess;
  }
  static cudaError_t stream_create(cudaStream_t* stream) {
    const std::lock_guard lock(mutex);
    return make("stream_create", self().streams_, stream);
  }
  static cudaError_t stream_destroy(cudaStream_t stream) {
    const std::lock_guard lock(mutex);
    if (self().capturing_.count(stream) != 0) self().report_misuse("stream_destroy");
    return end("stream_destroy", self().streams_, stream);
  }
  static cudaError_t stream_synchronize(cudaStream_t stream) {
    const std::lock_guard lock(mutex);
    if (self().capturing_.count(stream) != 0) self().report_misuse("stream_synchronize");
    return use("stream_synchronize", self().streams_, stream);
  }
  static cudaError_t event_create(cudaEvent_t* event) {
    const std::lock_guard lock(mutex);
    return make("event_create", self().events_, event);
  }
  static cudaError_t event_destroy(cudaEvent_t event) {
    const std::lock_guard lock(mutex);
    return end("event_destroy", self().events_, event);
  }
  static cudaError_t event_record(cudaEvent_t event, cudaStream_t stream) {
    const std::lock_guard lock(mutex);
    if (self().capturing_.count(stream) != 0) self().report_misuse("event_record");
    return use("event_record", self().events_, event);
  }
  static cudaError_t event_synchronize(cudaEvent_t event) {
    const std::lock_guard lock(mutex);
    return use("event_synchronize", self().events_, event);
  }
  static cudaError_t event_elapsed_ms(float* ms, cudaEvent_t, cudaEvent_t) {
    const std::lock_guard lock(mutex);
    *ms = 1;
    return self().enter("event_elapsed_ms");
  }
  static cudaError_t allow_shared_bytes(const void*, int) {
    const std::lock_guard lock(mutex);
    return self().enter("allow_shared_bytes");
  }
  static cudaError_t encode_byte_map(CUtensorMap* map, const void*, int64_t, int64_t, int32_t) {
    const std::lock_guard lock(mutex);
    *map = {};
    return self().enter("encode_byte_map");
  }
  static cudaError_t get_kernel_attributes(cudaFuncAttributes* attributes, const void*) {
    const std::lock_guard lock(mutex);
    *attributes = {};
    return self().enter("get_kernel_attributes");
  }
  static cudaError_t launch_kernel(const void*, dim3 grid, dim3 block, void**, size_t,
                                   cudaStream_t stream) {
    const std::lock_guard lock(mutex);
    if (const cudaError_t error = self().enter("launch_kernel")) return error;
    const bool empty = grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0;
    if (empty || self().streams_.count(stream) == 0) {
      self().report_misuse("launch_kernel");
      return cudaErrorInvalidConfiguration;
    }
    return self().queue(stream, [] {
      ++self().launches_;
      return cudaSuccess;
    });
  }
  static cudaError_t launch_overlapping_kernel(const void* kernel, dim3 grid, dim3 block,
                                               uint32_t n_cluster, void** arguments,
                                               size_t shared_bytes, cudaStream_t stream) {
    const std::lock_guard lock(mutex);
    if (self().machine.sm < 90 || n_cluster == 0 || n_cluster > 8 || grid.x % n_cluster != 0)
      self().report_misuse("launch_overlapping_kernel");
    return launch_kernel(kernel, grid, block, arguments, shared_bytes, stream);
  }
  static cudaError_t stream_begin_capture(cudaStream_t stream) {
    const std::lock_guard lock(mutex);
    if (const cudaError_t error = self().enter("stream_begin_capture")) return error;
    if (self().streams_.count(stream) == 0 || self().capturing_.count(stream) != 0) {
      self().report_misuse("stream_begin_capture");
      return cudaErrorInvalidValue;
    }
    self().capturing_[stream];
    return cudaSuccess;
  }
  // An end that fails ends the capture all the same and gives no graph.
  static cudaError_t stream_end_capture(cudaStream_t stream, cudaGraph_t* graph) {
    const std::lock_guard lock(mutex);
    const auto captured = self().capturing_.extract(stream);
    *graph = nullptr;
    if (const cudaError_t error = self().enter("stream_end_capture")) return error;
    if (captured.empty()) {
      self().report_misuse("stream_end_capture");
      return cudaErrorInvalidValue;
    }
    *graph = static_cast<cudaGraph_t>(std::malloc(1));
    self().graphs_[*graph] = captured.mapped();
    return cudaSuccess;
  }
  static cudaError_t end_graph(const char* name, void* graph) {
    const cudaError_t error = self().enter(name);
    if (self().graphs_.erase(graph) == 0) {
      self().report_misuse(name);
    } else {
      std::free(graph);
    }
    return error;
  }
  static cudaError_t graph_destroy(cudaGraph_t graph) {
    const std::lock_guard lock(mutex);
    return end_graph("graph_destroy", graph);
  }
  static cudaError_t graph_instantiate(cudaGraphExec_t* executable, cudaGraph_t graph) {
    const std::lock_guard lock(mutex);
    if (const cudaError_t error = self().enter("graph_instantiate")) return error;
    const auto found = self().graphs_.find(graph);
    if (found == self().graphs_.end()) {
      self().report_misuse("graph_instantiate");
      return cudaErrorInvalidValue;
    }
    *executable = static_cast<cudaGraphExec_t>(std::malloc(1));
    self().graphs_[*executable] = found->second;
    return cudaSuccess;
  }
  static cudaError_t graph_exec_destroy(cudaGraphExec_t executable) {
    const std::lock_guard lock(mutex);
    return end_graph("graph_exec_destroy", executable);
  }
  static cudaError_t graph_launch(cudaGraphExec_t executable, cudaStream_t stream) {
    const std::lock_guard lock(mutex);
    if (const cudaError_t error = self().enter("graph_launch")) return error;
    const auto found = self().graphs_.find(executable);
    if (found == self().graphs_.end() || self().streams_.count(stream) == 0 ||
        self().capturing_.count(stream) != 0) {
      self().report_misuse("graph_launch");
      return cudaErrorInvalidValue;
    }
    for (const Work& work : found->second) {
      if (const cudaError_t error = work()) return error;
    }
    return cudaSuccess;
  }
  // Not counted: reporting an error must not be what fails.
  static cudaError_t get_last_error() {
    const std::lock_guard lock(mutex);
    return self().sticky_;
  }
  static const char* get_error_name(cudaError_t error) {
    switch (error) {
      case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
      case cudaErrorIllegalAddress:
        return "cudaErrorIllegalAddress";
      case cudaErrorLaunchFailure:
        return "cudaErrorLaunchFailure";
      default:
        return "cudaErrorOther";
    }
  }
  static const char* get_error_string(cudaError_t) { return "substitute"; }
};

SubstituteCuda& SubstituteCuda::instance() {
  static SubstituteCuda substitute;
  return substitute;
}

const CudaRuntime& SubstituteCuda::runtime() {
  using F = Functions;
  static const CudaRuntime table = {
      .get_device_count = &F::get_device_count,
      .driver_get_version = &F::driver_get_version,
      .get_device_properties = &F::get_device_properties,
      .get_device_attribute = &F::get_device_attribute,
      .set_device = &F::set_device,
      .mem_get_info = &F::mem_get_info,
      .malloc = &F::malloc,
      .free = &F::free,
      .malloc_host = &F::malloc_host,
      .free_host = &F::free_host,
      .memcpy_async = &F::memcpy_async,
      .memset_async = &F::memset_async,
      .stream_create = &F::stream_create,
      .stream_destroy = &F::stream_destroy,
      .stream_synchronize = &F::stream_synchronize,
      .event_create = &F::event_create,
      .event_destroy = &F::event_destroy,
      .event_record = &F::event_record,
      .event_synchronize = &F::event_synchronize,
      .event_elapsed_ms = &F::event_elapsed_ms,
      .allow_shared_bytes = &F::allow_shared_bytes,
      .get_kernel_attributes = &F::get_kernel_attributes,
      .encode_byte_map = &F::encode_byte_map,
      .launch_kernel = &F::launch_kernel,
      .launch_overlapping_kernel = &F::launch_overlapping_kernel,
      .stream_begin_capture = &F::stream_begin_capture,
      .stream_end_capture = &F::stream_end_capture,
      .graph_destroy = &F::graph_destroy,
      .graph_instantiate = &F::graph_instantiate,
      .graph_exec_destroy = &F::graph_exec_destroy,
      .graph_launch = &F::graph_launch,
      .get_last_error = &F::get_last_error,
      .get_error_name = &F::get_error_name,
      .get_error_string = &F::get_error_string,
  };
  return table;
}

cudaError_t SubstituteCuda::enter(const char* name) {
  ++calls_by_name_[name];
  const int64_t index = calls_++;
  if (sticky_ != cudaSuccess) return sticky_;
  if (index < fail_at_ || failed_) return cudaSuccess;
  if (fail_name_.empty() ? index != fail_at_ : name != fail_name_) return cudaSuccess;
  failed_ = true;
  if (is_sticky(fail_with_)) sticky_ = fail_with_;
  return fail_with_;
}

cudaError_t SubstituteCuda::queue(void* stream, const Work& work) {
  const auto capturing = capturing_.find(stream);
  if (capturing == capturing_.end()) return work();
  capturing->second.push_back(work);
  return cudaSuccess;
}

void SubstituteCuda::report_misuse(const char* name) {
  if (misuse_.empty()) misuse_ = name;
}

void SubstituteCuda::reset() {
  const std::lock_guard lock(mutex);
  machine = Machine();
  calls_ = launches_ = 0;
  calls_by_name_.clear();
  fail_at_ = std::numeric_limits<int64_t>::max();
  fail_name_.clear();
  failed_ = false;
  sticky_ = cudaSuccess;
  misuse_.clear();
}

void SubstituteCuda::fail_call(int64_t k, cudaError_t error) {
  const std::lock_guard lock(mutex);
  calls_ = 0;
  fail_at_ = k;
  fail_name_.clear();
  fail_with_ = error;
  failed_ = false;
}

void SubstituteCuda::fail_next(const std::string& name, cudaError_t error) {
  fail_call(0, error);
  const std::lock_guard lock(mutex);
  fail_name_ = name;
}

SubstituteCuda::Live SubstituteCuda::live() const {
  const std::lock_guard lock(mutex);
  Live live;
  live.device_blocks = static_cast<int64_t>(device_.size());
  live.device_bytes = sum_of(device_);
  live.pinned_blocks = static_cast<int64_t>(pinned_.size());
  live.pinned_bytes = sum_of(pinned_);
  live.streams = static_cast<int64_t>(streams_.size());
  live.events = static_cast<int64_t>(events_.size());
  live.graphs = static_cast<int64_t>(graphs_.size());
  return live;
}

void SubstituteCuda::free_all() {
  const std::lock_guard lock(mutex);
  for (auto* blocks : {&device_, &pinned_}) {
    for (const auto& [memory, size] : *blocks)
      std::free(memory);
    blocks->clear();
  }
  for (auto* handles : {&streams_, &events_}) {
    for (const auto& [handle, unused] : *handles)
      std::free(handle);
    handles->clear();
  }
  for (const auto& [graph, unused] : graphs_)
    std::free(graph);
  graphs_.clear();
  capturing_.clear();
}

}  // namespace flexq::test
