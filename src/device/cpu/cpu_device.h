// The CPU backend: host memory, the packed layouts of kernels/layout, one kernel table.
#pragma once

#include "device/device.h"
#include "kernels/cpu/cpu_kernels.h"

namespace flexq {

class CpuDevice : public Device {
 public:
  explicit CpuDevice(const CpuKernels& kernels) : kernels_(kernels) {}

  DeviceDescription describe() const override;
  bool supports(KvType) const override { return true; }
  int32_t default_chunk_tokens() const override { return 256; }
  Result<std::unique_ptr<DeviceBuffer>> allocate(int64_t bytes, const char* what) override;
  Result<int64_t> tensor_bytes(const DeviceTensorDesc& desc) const override;
  Status store_rows(const DeviceTensorDesc& desc, int64_t row_begin, int64_t n_rows,
                    const uint8_t* values, const uint16_t* scales, uint8_t* destination) override;
  Status copy(uint8_t* to, const uint8_t* from, int64_t bytes) override;
  DeviceMatrix matrix_at(const DeviceTensorDesc& desc, const uint8_t* data) const override;
  Result<int64_t> workspace_bytes(const ExecutorShape& shape) const override;
  Result<std::unique_ptr<Executor>> create_executor(const ExecutorShape& shape,
                                                    std::span<uint8_t> workspace,
                                                    std::span<uint8_t> pages,
                                                    ThreadPool& pool) override;
  Result<std::unique_ptr<LinearRunner>> create_linear_runner(const LinearShape& shape,
                                                             ThreadPool& pool) override;
  Result<std::unique_ptr<ReadRunner>> create_read_runner(ThreadPool& pool) override;
  Result<std::unique_ptr<BaselineRunner>> create_baselines() override;
  Result<TensorRates> tensor_rates() override { return TensorRates(); }

 private:
  const CpuKernels& kernels_;
};

}  // namespace flexq
