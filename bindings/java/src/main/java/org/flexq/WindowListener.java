package org.flexq;

/** Receives the windows of a perplexity measurement. */
@FunctionalInterface
public interface WindowListener {
  /**
   * Called after each window, on the thread that measures.
   *
   * @param window its index
   * @param nWindows of all
   * @param windowNll its mean negative log likelihood, nats
   * @return false cancels: the measurement throws CANCELLED
   */
  boolean onWindow(int window, int nWindows, double windowNll);
}
