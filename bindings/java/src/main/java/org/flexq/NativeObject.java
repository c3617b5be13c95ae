package org.flexq;

import java.util.function.LongConsumer;

/** A native options object that lives for one call. */
final class NativeObject implements AutoCloseable {
  /** NULL: the library's defaults. */
  static final NativeObject NONE = new NativeObject(0, address -> {});

  final long address;
  private final LongConsumer release;

  private NativeObject(long address, LongConsumer release) {
    this.address = address;
    this.release = release;
  }

  /** A *_create function of flexq.h. */
  interface Create {
    int create(long[] object);
  }

  static NativeObject create(Create create, LongConsumer release, LongConsumer configure) {
    NativeObject object = new NativeObject(make(create), release);
    try {
      configure.accept(object.address);
      return object;
    } catch (Throwable t) {
      object.close();
      throw t;
    }
  }

  /** The address of a new native object. */
  static long make(Create create) {
    long[] object = new long[1];
    create.create(object);
    return object[0];
  }

  @Override
  public void close() {
    release.accept(address);
  }
}
