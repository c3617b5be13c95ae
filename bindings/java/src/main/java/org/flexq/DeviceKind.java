package org.flexq;

import org.flexq.internal.FlexqNativeConstants;

/** What computes. */
public enum DeviceKind {
  /** The processor. */
  CPU,
  /** An NVIDIA GPU. */
  CUDA,
  /** A kind that this version does not know. */
  UNKNOWN;

  static DeviceKind of(int number) {
    return switch (number) {
      case FlexqNativeConstants.FLEXQ_DEVICE_CPU -> CPU;
      case FlexqNativeConstants.FLEXQ_DEVICE_CUDA -> CUDA;
      default -> UNKNOWN;
    };
  }
}
