package org.flexq;

import org.flexq.internal.FlexqNativeConstants;

/** Why an answer ended. */
public enum FinishReason {
  /** It did not: still running. */
  NONE,
  /** An end token, a stop string, or the end of an answer in JSON. */
  STOP,
  /** The most tokens that were asked for, or the context is full. */
  LENGTH,
  /** Cancelled, or stopped by its listener. */
  CANCELLED,
  /** The deadline passed. */
  DEADLINE,
  /** An error; the exception says which. */
  ERROR,
  /** A reason that this version does not know. */
  UNKNOWN;

  static FinishReason of(int number) {
    return switch (number) {
      case FlexqNativeConstants.FLEXQ_FINISH_NONE -> NONE;
      case FlexqNativeConstants.FLEXQ_FINISH_STOP -> STOP;
      case FlexqNativeConstants.FLEXQ_FINISH_LENGTH -> LENGTH;
      case FlexqNativeConstants.FLEXQ_FINISH_CANCELLED -> CANCELLED;
      case FlexqNativeConstants.FLEXQ_FINISH_DEADLINE -> DEADLINE;
      case FlexqNativeConstants.FLEXQ_FINISH_ERROR -> ERROR;
      default -> UNKNOWN;
    };
  }
}
