package org.flexq;

import java.io.IOException;
import java.nio.ByteBuffer;

/** Reads a bundle from where the library itself cannot: an archive, an object store. */
@FunctionalInterface
public interface SourceReader {
  /**
   * Fills a buffer. Called from any thread, by several at once with separate buffers.
   *
   * @param offset of the first byte wanted, from the beginning of the bundle
   * @param buffer to be filled completely
   * @throws IOException when that is impossible: what needed the bytes then throws an {@link
   *     java.io.UncheckedIOException} with this cause
   */
  void read(long offset, ByteBuffer buffer) throws IOException;
}
