package org.flexq;

import org.flexq.internal.FlexqNative;

/**
 * Texts to score, as tokens: each a continuation behind its context; see {@link Context#score(
 * Continuations, ProgressListener)}. Belongs to one thread at a time.
 */
public final class Continuations implements AutoCloseable {
  private final NativeHandle handle =
      new NativeHandle(
          "Continuations",
          NativeObject.make(FlexqNative::flexq_continuations_create),
          FlexqNative::flexq_continuations_release);
  private int size;

  /** No texts. */
  public Continuations() {}

  /**
   * Appends a text.
   *
   * @param contextTokens one or more ids (BOS, if nothing else), copied
   * @param tokens one or more ids, copied
   * @return this
   * @throws FlexqException INVALID_ARGUMENT, OUT_OF_MEMORY
   */
  public Continuations add(int[] contextTokens, int[] tokens) {
    try (NativeHandle.Use continuations = handle.useAlone()) {
      FlexqNative.flexq_continuations_add(continuations.address, contextTokens, tokens);
      size++;
      return this;
    }
  }

  /**
   * Number of texts.
   *
   * @return as many as were added
   */
  public int size() {
    handle.checkOpen();
    return size;
  }

  /**
   * Forgets all texts.
   *
   * @return this
   */
  public Continuations clear() {
    try (NativeHandle.Use continuations = handle.useAlone()) {
      FlexqNative.flexq_continuations_clear(continuations.address);
      size = 0;
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
