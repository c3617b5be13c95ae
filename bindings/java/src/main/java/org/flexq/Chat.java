package org.flexq;

import org.flexq.internal.FlexqNative;
import org.flexq.internal.Utf8;

/**
 * The messages of one conversation, in their order, for {@link Tokenizer#encodeChat}. Belongs to
 * one thread at a time.
 */
public final class Chat implements AutoCloseable {
  private final NativeHandle handle =
      new NativeHandle(
          "Chat",
          NativeObject.make(FlexqNative::flexq_chat_create),
          FlexqNative::flexq_chat_release);

  /** No messages. */
  public Chat() {}

  /**
   * Appends a message.
   *
   * @param role "system", "user" or "assistant"
   * @param content copied
   * @return this
   * @throws FlexqException INVALID_ARGUMENT (role), LIMIT_EXCEEDED (over 2^28 bytes)
   */
  public Chat add(String role, String content) {
    try (NativeHandle.Use chat = handle.useAlone()) {
      FlexqNative.flexq_chat_add(
          chat.address, Utf8.zeroTerminated(role), Utf8.bytes(content));
      return this;
    }
  }

  /**
   * Forgets all messages.
   *
   * @return this
   */
  public Chat clear() {
    try (NativeHandle.Use chat = handle.useAlone()) {
      FlexqNative.flexq_chat_clear(chat.address);
      return this;
    }
  }

  @Override
  public void close() {
    handle.close();
  }

  NativeHandle.Use useAlone() {
    return handle.useAlone();
  }
}
