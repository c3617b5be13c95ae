package org.flexq;

/** Receives an answer token by token. */
@FunctionalInterface
public interface TokenListener {
  /**
   * Called for each event of an answer, the last one included, on the thread that runs the
   * generator.
   *
   * @param event the step
   * @return false ends the answer here, which is no error
   */
  boolean onToken(TokenEvent event);
}
