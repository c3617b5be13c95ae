package org.flexq;

import java.lang.ref.Cleaner;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.LongConsumer;
import org.flexq.internal.NativeCleaner;

/**
 * Ownership of one native object. The library protects calls that have entered it; this count
 * protects those that have read the address but not entered yet: the native object is released by
 * close(), or by the last running call after it. An owner that becomes unreachable is closed too.
 */
final class NativeHandle {
  private final State state;
  private final Cleaner.Cleanable cleanable;

  /**
   * @param owner what exceptions call it
   * @param address the native object, owned from here on
   * @param release gives it back
   * @param keptAlive what the native object uses without owning it, or null
   */
  NativeHandle(String owner, long address, LongConsumer release, Object keptAlive) {
    state = new State(owner, address, release, keptAlive);
    cleanable = NativeCleaner.CLEANER.register(this, state);
  }

  NativeHandle(String owner, long address, LongConsumer release) {
    this(owner, address, release, null);
  }

  /**
   * Begins a call.
   *
   * @throws IllegalStateException when closed
   */
  Use use() {
    state.enter();
    return new Use(this, false);
  }

  /**
   * Begins a call on an object that belongs to one thread at a time: a second one at once, from
   * another thread or from a callback, would damage it.
   *
   * @throws IllegalStateException when closed, or in use
   */
  Use useAlone() {
    state.enter();
    if (!state.isTaken.compareAndSet(false, true)) {
      state.leave();
      throw new IllegalStateException(state.owner + " is in use by another call");
    }
    return new Use(this, true);
  }

  /**
   * For what needs no native call.
   *
   * @throws IllegalStateException when closed
   */
  void checkOpen() {
    state.enter();
    state.leave();
  }

  /** No call begins afterwards. Any number of times, from any thread. */
  void close() {
    cleanable.clean();
  }

  /** A running call. Keeps the handle reachable, and with it the native object. */
  static final class Use implements AutoCloseable {
    final long address;
    private final NativeHandle handle;
    private final boolean isAlone;

    private Use(NativeHandle handle, boolean isAlone) {
      this.handle = handle;
      this.isAlone = isAlone;
      this.address = handle.state.address;
    }

    @Override
    public void close() {
      if (isAlone) {
        handle.state.isTaken.set(false);
      }
      handle.state.leave();
    }
  }

  /** Apart from the handle, since the cleaner must not reach what it waits for. */
  private static final class State implements Runnable {
    static final long CLOSED = 1L << 62;

    final String owner;
    final long address;
    final LongConsumer release;
    volatile Object keptAlive;
    final AtomicLong word = new AtomicLong(); // running calls, and CLOSED
    final AtomicBoolean isTaken = new AtomicBoolean(); // by a call of useAlone

    State(String owner, long address, LongConsumer release, Object keptAlive) {
      this.owner = owner;
      this.address = address;
      this.release = release;
      this.keptAlive = keptAlive;
    }

    void enter() {
      long seen;
      do {
        seen = word.get();
        if ((seen & CLOSED) != 0) {
          throw new IllegalStateException(owner + " is closed");
        }
      } while (!word.compareAndSet(seen, seen + 1));
    }

    void leave() {
      if (word.decrementAndGet() == CLOSED) {
        free();
      }
    }

    /** The cleaner runs this once at most. */
    @Override
    public void run() {
      if (word.getAndAdd(CLOSED) == 0) {
        free();
      }
    }

    private void free() {
      release.accept(address);
      keptAlive = null;
    }
  }
}
