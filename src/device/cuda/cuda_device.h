// The CUDA backend's device: memory on one GPU, weights packed by it, steps of the forward pass
// queued on streams.
#pragma once

#include <memory>

#include "device/cuda/cuda_session.h"
#include "device/cuda/cuda_staging.h"
#include "device/device.h"
#include "kernels/cuda/cuda_kernels.h"

namespace flexq {

// What describe() says; asks the device for its free memory, 0 where it does not answer.
DeviceDescription describe_cuda(CudaSession& session, CudaFamily family);

class CudaDevice : public Device {
 public:
  // family: kernels of 6-bit layers whose activations are quantized.
  CudaDevice(std::shared_ptr<CudaSession> session, CudaFamily family)
      : session_(session), family_(family), staging_(std::move(session)) {}

  DeviceDescription describe() const override { return describe_cuda(*session_, family_); }
  bool supports(KvType type) const override { return type != KvType::kF32; }
  int32_t default_chunk_tokens() const override { return 1024; }
  Result<std::unique_ptr<DeviceBuffer>> allocate(int64_t bytes, const char* what) override;
  Result<int64_t> tensor_bytes(const DeviceTensorDesc& desc) const override;
  Status store_rows(const DeviceTensorDesc& desc, int64_t row_begin, int64_t n_rows,
                    const uint8_t* values, const uint16_t* scales, uint8_t* destination) override;
  Status finish_stores() override { return staging_.finish(); }
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
  Result<TensorRates> tensor_rates() override;

 private:
  const std::shared_ptr<CudaSession> session_;
  const CudaFamily family_;
  CudaStaging staging_;
};

}  // namespace flexq
