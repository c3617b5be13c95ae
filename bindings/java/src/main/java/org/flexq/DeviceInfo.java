package org.flexq;

import org.flexq.internal.DeviceStruct;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.Utf8;

/**
 * A device that this process can use.
 *
 * @param kind CPU or CUDA
 * @param totalMemoryBytes physical memory of the device
 * @param freeMemoryBytes at the time of the call
 * @param nThreads processors that this process may use; 0 where the device is not a CPU
 * @param id what options take: "cpu", "cuda:0"
 * @param name of the processor
 * @param kernels the kernel set that "auto" chooses, for example "avx2"
 */
public record DeviceInfo(
    DeviceKind kind,
    long totalMemoryBytes,
    long freeMemoryBytes,
    int nThreads,
    String id,
    String name,
    String kernels) {

  static DeviceInfo ofIndex(int index) {
    try (DeviceStruct info = new DeviceStruct()) {
      FlexqNative.flexq_device_get_info(index, info);
      return new DeviceInfo(
          DeviceKind.of(info.getKind()),
          info.getTotal_memory_bytes(),
          info.getFree_memory_bytes(),
          info.getN_threads(),
          Utf8.string(info.getId()),
          Utf8.string(info.getName()),
          Utf8.string(info.getKernels()));
    }
  }
}
