package org.flexq;

import java.util.Arrays;
import org.flexq.internal.FlexqNativeConstants;

/** Calls of functions that fill a buffer: again with a larger one when the first was too small. */
final class Buffers {
  private Buffers() {}

  interface FillBytes {
    int fill(byte[] buffer, long[] length);
  }

  interface FillTokens {
    int fill(int[] buffer, int[] length);
  }

  static byte[] bytes(int likelyLength, FillBytes function) {
    byte[] buffer = new byte[likelyLength];
    long[] length = new long[1];
    while (function.fill(buffer, length) == FlexqNativeConstants.FLEXQ_ERROR_BUFFER_TOO_SMALL) {
      buffer = new byte[Math.toIntExact(length[0])];
    }
    return length[0] == buffer.length ? buffer : Arrays.copyOf(buffer, (int) length[0]);
  }

  static int[] tokens(int likelyLength, FillTokens function) {
    int[] buffer = new int[likelyLength];
    int[] length = new int[1];
    while (function.fill(buffer, length) == FlexqNativeConstants.FLEXQ_ERROR_BUFFER_TOO_SMALL) {
      buffer = new int[length[0]];
    }
    return length[0] == buffer.length ? buffer : Arrays.copyOf(buffer, length[0]);
  }
}
