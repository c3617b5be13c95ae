package org.flexq;

import org.flexq.internal.FlexqNative;
import org.flexq.internal.FlexqNativeConstants;
import org.flexq.internal.Utf8;

/**
 * A call that the native library refused or could not finish. The message says what was expected
 * and what was found; {@link #code()} is one of the constants here, or a number of a newer library.
 */
public final class FlexqException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /** An argument is null, negative or out of range. */
  public static final int INVALID_ARGUMENT = FlexqNativeConstants.FLEXQ_ERROR_INVALID_ARGUMENT;

  /** No option key of that name. */
  public static final int UNKNOWN_OPTION = FlexqNativeConstants.FLEXQ_ERROR_UNKNOWN_OPTION;

  /** A known option, a value that this build does not take. */
  public static final int UNSUPPORTED_VALUE = FlexqNativeConstants.FLEXQ_ERROR_UNSUPPORTED_VALUE;

  /** The call does not fit what happened before, or another thread is inside the context. */
  public static final int INVALID_STATE = FlexqNativeConstants.FLEXQ_ERROR_INVALID_STATE;

  /** A buffer is too small; never seen through this package. */
  public static final int BUFFER_TOO_SMALL = FlexqNativeConstants.FLEXQ_ERROR_BUFFER_TOO_SMALL;

  /** There is not enough host or device memory. */
  public static final int OUT_OF_MEMORY = FlexqNativeConstants.FLEXQ_ERROR_OUT_OF_MEMORY;

  /** An operating-system call failed; the message names the path. */
  public static final int IO = FlexqNativeConstants.FLEXQ_ERROR_IO;

  /** A file, folder or named thing does not exist. */
  public static final int NOT_FOUND = FlexqNativeConstants.FLEXQ_ERROR_NOT_FOUND;

  /** Disk or quota full. */
  public static final int NO_SPACE = FlexqNativeConstants.FLEXQ_ERROR_NO_SPACE;

  /** A damaged or malformed file. */
  public static final int CORRUPT = FlexqNativeConstants.FLEXQ_ERROR_CORRUPT;

  /** A newer format, or a feature unknown to this reader. */
  public static final int UNSUPPORTED_VERSION =
      FlexqNativeConstants.FLEXQ_ERROR_UNSUPPORTED_VERSION;

  /** A well-formed model that FlexQ does not implement. */
  public static final int UNSUPPORTED_MODEL = FlexqNativeConstants.FLEXQ_ERROR_UNSUPPORTED_MODEL;

  /** A declared size beyond the documented limits. */
  public static final int LIMIT_EXCEEDED = FlexqNativeConstants.FLEXQ_ERROR_LIMIT_EXCEEDED;

  /** A signature that does not fit, or none by the key that was required. */
  public static final int SIGNATURE = FlexqNativeConstants.FLEXQ_ERROR_SIGNATURE;

  /** The operation was cancelled. */
  public static final int CANCELLED = FlexqNativeConstants.FLEXQ_ERROR_CANCELLED;

  /** The deadline of the generator or the request passed. */
  public static final int DEADLINE_EXCEEDED = FlexqNativeConstants.FLEXQ_ERROR_DEADLINE_EXCEEDED;

  /** No room in the context length or the KV cache. */
  public static final int CONTEXT_FULL = FlexqNativeConstants.FLEXQ_ERROR_CONTEXT_FULL;

  /** NaN or infinity in weights, logits or hidden states. */
  public static final int NON_FINITE = FlexqNativeConstants.FLEXQ_ERROR_NON_FINITE;

  /** A callback stopped the operation; never seen through this package. */
  public static final int STOPPED_BY_CALLBACK =
      FlexqNativeConstants.FLEXQ_ERROR_STOPPED_BY_CALLBACK;

  /** No choice keeps the limit that was set. */
  public static final int BUDGET_NOT_MET = FlexqNativeConstants.FLEXQ_ERROR_BUDGET_NOT_MET;

  /** Too many requests wait in the engine; try again later. */
  public static final int QUEUE_FULL = FlexqNativeConstants.FLEXQ_ERROR_QUEUE_FULL;

  /** The device does not exist. */
  public static final int NO_DEVICE = FlexqNativeConstants.FLEXQ_ERROR_NO_DEVICE;

  /** The device exists but cannot be used; the message says why. */
  public static final int DEVICE_UNSUPPORTED = FlexqNativeConstants.FLEXQ_ERROR_DEVICE_UNSUPPORTED;

  /** The device is broken until the process ends; other devices go on. */
  public static final int DEVICE_LOST = FlexqNativeConstants.FLEXQ_ERROR_DEVICE_LOST;

  /** A bug in FlexQ; please report it. */
  public static final int INTERNAL = FlexqNativeConstants.FLEXQ_ERROR_INTERNAL;

  /** The status of the native call. */
  private final int code;

  /** Called by native code, with the last error as UTF-8. */
  private FlexqException(int code, byte[] message) {
    super(Utf8.string(message));
    this.code = code;
  }

  /**
   * The status of the native call.
   *
   * @return a negative number that never changes its meaning
   */
  public int code() {
    return code;
  }

  /**
   * The name of the code.
   *
   * @return for example "OUT_OF_MEMORY"; "UNKNOWN" for other numbers
   */
  public String name() {
    return Utf8.string(FlexqNative.flexq_status_name(code));
  }

  /** With name and code in front: "NOT_FOUND (-102): model.flexq: no such file or folder". */
  @Override
  public String toString() {
    return getClass().getName() + ": " + name() + " (" + code + "): " + getMessage();
  }
}
