package org.flexq;

import java.util.ArrayList;
import java.util.List;
import org.flexq.internal.Callback;
import org.flexq.internal.CallbackReference;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.FlexqNativeConstants;
import org.flexq.internal.Utf8;

/** The library as a whole: version, devices, and what is set for the process. Thread-safe. */
public final class FlexQ {
  /** The ABI version that this jar was made for. */
  public static final int ABI_VERSION = FlexqNativeConstants.FLEXQ_ABI_VERSION;

  // What the library calls now; replaced under the class's lock.
  private static CallbackReference log = new CallbackReference(null);
  private static CallbackReference allocator = new CallbackReference(null);

  private FlexQ() {}

  /**
   * Version of the native library.
   *
   * @return "MAJOR.MINOR.PATCH"
   */
  public static String version() {
    return Utf8.string(FlexqNative.flexq_version());
  }

  /**
   * ABI version of the native library; loading it fails when it is not {@link #ABI_VERSION}.
   *
   * @return the number
   */
  public static int abiVersion() {
    return FlexqNative.flexq_abi_version();
  }

  /**
   * How the native library was built, and the kernel sets of this machine.
   *
   * @return lines of "key: value"
   */
  public static String buildInfo() {
    return Utf8.string(FlexqNative.flexq_build_info());
  }

  /**
   * Devices that this process can use.
   *
   * @return at least one: the first is the CPU
   */
  public static List<DeviceInfo> devices() {
    List<DeviceInfo> devices = new ArrayList<>();
    for (int i = 0; i < FlexqNative.flexq_device_count(); i++) {
      devices.add(DeviceInfo.ofIndex(i));
    }
    return List.copyOf(devices);
  }

  /**
   * Sets who receives the library's messages. When the call returns no thread is inside the old
   * listener any more; do not call it from the listener itself.
   *
   * @param listener null silences the library, which is the default
   * @param maxLevel the least important level that is wanted
   */
  public static synchronized void setLog(LogListener listener, LogLevel maxLevel) {
    CallbackReference next = new CallbackReference(listener == null ? null : logTo(listener));
    FlexqNative.flexq_set_log_callback(next.isSet(), maxLevel.number, next.userData());
    log.close();
    log = next;
  }

  /**
   * Sets where large host buffers come from, for the whole process. Only while no such buffer is in
   * use: before the first load, or after the last model and context are closed (and were not in use
   * any more).
   *
   * @param newAllocator null is the C library, the default
   * @throws FlexqException INVALID_STATE (buffers in use)
   */
  public static synchronized void setAllocator(HostAllocator newAllocator) {
    CallbackReference next =
        new CallbackReference(newAllocator == null ? null : allocateFrom(newAllocator));
    try {
      FlexqNative.flexq_set_allocator(next.isSet(), next.isSet(), next.userData());
    } catch (FlexqException e) {
      next.close();
      throw e;
    }
    allocator.close();
    allocator = next;
  }

  private static Callback logTo(LogListener listener) {
    return new Callback() {
      @Override
      protected void onLog(int level, byte[] text) {
        listener.onLog(LogLevel.of(level), Utf8.string(text));
      }
    };
  }

  private static Callback allocateFrom(HostAllocator host) {
    return new Callback() {
      @Override
      protected long onAllocate(long nBytes, long alignment) {
        return host.allocate(nBytes, alignment);
      }

      @Override
      protected void onFree(long address, long nBytes) {
        host.free(address, nBytes);
      }
    };
  }
}
