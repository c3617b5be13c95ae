package org.flexq;

/** Receives the library's messages. */
@FunctionalInterface
public interface LogListener {
  /**
   * Called on any thread that is inside the library, several at once. What it throws goes to the
   * thread's handler of uncaught exceptions.
   *
   * @param level how important
   * @param message one line
   */
  void onLog(LogLevel level, String message);
}
