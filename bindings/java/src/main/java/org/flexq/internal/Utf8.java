package org.flexq.internal;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;

/** Text at the native border: bytes, never a native string. */
public final class Utf8 {
  private Utf8() {}

  /** The bytes of a text, of any length and with any character. */
  public static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  /** A name or path as C knows it, with the zero byte at its end; null stays null. */
  public static byte[] zeroTerminated(String text) {
    if (text == null) {
      return null;
    }
    if (text.indexOf('\0') >= 0) {
      throw new IllegalArgumentException("a zero character in \"" + text + "\"");
    }
    return bytes(text + '\0');
  }

  /** Bytes outside of the heap, from its beginning to its end. */
  public static ByteBuffer direct(byte[] bytes) {
    return ByteBuffer.allocateDirect(bytes.length).put(bytes).flip();
  }

  public static String string(byte[] utf8) {
    return new String(utf8, StandardCharsets.UTF_8);
  }
}
