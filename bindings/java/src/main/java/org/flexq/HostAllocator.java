package org.flexq;

import java.nio.ByteBuffer;
import org.flexq.internal.FlexqNative;

/**
 * Where large host buffers come from: weights, KV cache, workspaces, staging. Both methods are
 * called from any thread, several at once. Addresses are those of native memory, for example of a
 * direct buffer (see {@link #addressOf}) that the allocator keeps until it is freed.
 */
public interface HostAllocator {
  /**
   * Gives memory.
   *
   * @param nBytes 1 or more
   * @param alignment of the address, a power of two
   * @return the address; 0, or an OutOfMemoryError, when there is no memory: the call that needs it
   *     then throws OUT_OF_MEMORY
   */
  long allocate(long nBytes, long alignment);

  /**
   * Takes memory back.
   *
   * @param address what allocate gave
   * @param nBytes as in allocate
   */
  void free(long address, long nBytes);

  /**
   * The address of a direct buffer's memory, from its position on.
   *
   * @param buffer a direct buffer
   * @return its address
   * @throws IllegalArgumentException when the buffer is not direct, or has nothing remaining
   */
  static long addressOf(ByteBuffer buffer) {
    if (!buffer.isDirect() || !buffer.hasRemaining()) {
      throw new IllegalArgumentException("expected a direct buffer with bytes remaining");
    }
    return FlexqNative.buffer_address(buffer.slice());
  }
}
