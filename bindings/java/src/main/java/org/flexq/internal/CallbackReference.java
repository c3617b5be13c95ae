package org.flexq.internal;

import java.lang.ref.Cleaner;

/**
 * A callback as native code knows it: user_data of the library's callbacks. Valid until it is
 * closed, or found unreachable.
 */
public final class CallbackReference implements AutoCloseable {
  private final long userData;
  private final Cleaner.Cleanable cleanable;

  /** A reference to nothing (isSet() is false) for null and for {@link Callback#NONE}. */
  public CallbackReference(Callback callback) {
    if (callback == null || callback == Callback.NONE) {
      userData = 0;
      cleanable = null;
    } else {
      long reference = FlexqNative.global_reference_create(callback);
      userData = reference;
      cleanable =
          NativeCleaner.CLEANER.register(
              this, () -> FlexqNative.global_reference_release(reference));
    }
  }

  public boolean isSet() {
    return userData != 0;
  }

  public long userData() {
    return userData;
  }

  @Override
  public void close() {
    if (cleanable != null) {
      cleanable.clean();
    }
  }
}
