package org.flexq;

import org.flexq.internal.FlexqNative;

/**
 * Tokens for several sequences, with the outputs wanted: what one {@link Context#decode} computes.
 * Reusable after clear. Belongs to one thread at a time, but for cancel and close.
 */
public final class Batch implements AutoCloseable {
  private final NativeHandle handle =
      new NativeHandle(
          "Batch",
          NativeObject.make(FlexqNative::flexq_batch_create),
          FlexqNative::flexq_batch_release);

  /** An empty batch. */
  public Batch() {}

  /**
   * Appends tokens to be put after the present end of a sequence. Output rows are numbered from 0
   * in the order of adding.
   *
   * @param sequence occurs once per batch
   * @param output which of the tokens give a row
   * @param tokens one or more ids, copied
   * @return this
   * @throws FlexqException INVALID_ARGUMENT, OUT_OF_MEMORY
   */
  public Batch add(int sequence, Output output, int... tokens) {
    try (NativeHandle.Use batch = handle.useAlone()) {
      FlexqNative.flexq_batch_add(batch.address, sequence, tokens, output.number);
      return this;
    }
  }

  /**
   * Empties the batch and takes back a cancel.
   *
   * @return this
   */
  public Batch clear() {
    try (NativeHandle.Use batch = handle.useAlone()) {
      FlexqNative.flexq_batch_clear(batch.address);
      return this;
    }
  }

  /**
   * From any thread: the decode that runs with this batch, or the next one to start with it, throws
   * CANCELLED; seen between layers, on CUDA before a step of one token per sequence only. Stays in
   * force until clear.
   */
  public void cancel() {
    try (NativeHandle.Use batch = handle.use()) {
      FlexqNative.flexq_batch_cancel(batch.address);
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
