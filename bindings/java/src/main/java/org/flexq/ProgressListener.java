package org.flexq;

/** Progress of a long operation. */
@FunctionalInterface
public interface ProgressListener {
  /**
   * Called from time to time, on the thread that started the operation.
   *
   * @param done so far: bytes, tokens or windows, as the operation says
   * @param total of all; equal to done in the last call
   * @return false cancels: the operation throws CANCELLED and leaves nothing half-made behind
   */
  boolean onProgress(long done, long total);
}
