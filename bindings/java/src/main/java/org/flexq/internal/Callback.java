package org.flexq.internal;

import java.util.concurrent.atomic.AtomicReference;

/**
 * What native code calls. The library gets a reference to one of these as user_data; native/
 * java_callbacks.cpp calls the methods without "on", which catch whatever user code throws, tell
 * the library to stop, and keep the exception for the caller of the operation.
 */
public abstract class Callback {
  /** For operations without a callback. */
  public static final Callback NONE = new Callback() {};

  private static final int GO_ON = 0;
  private static final int STOP = 1;

  private final AtomicReference<Throwable> thrown = new AtomicReference<>();

  protected boolean onProgress(long done, long total) {
    throw new UnsupportedOperationException();
  }

  protected boolean onToken(
      int finishReason,
      int token,
      int position,
      byte[] text,
      float logProb,
      int[] alternativeTokens,
      float[] alternativeLogProbs) {
    throw new UnsupportedOperationException();
  }

  protected boolean onWindow(int window, int nWindows, double windowNll) {
    throw new UnsupportedOperationException();
  }

  protected boolean onQuestion(
      int question, int nQuestions, int answer, int best, int bestNorm, double[] scores) {
    throw new UnsupportedOperationException();
  }

  /** Exactly nBytes of them. */
  protected byte[] onRead(long offset, int nBytes) throws Exception {
    throw new UnsupportedOperationException();
  }

  protected void onLog(int level, byte[] text) {
    throw new UnsupportedOperationException();
  }

  protected long onAllocate(long nBytes, long alignment) {
    throw new UnsupportedOperationException();
  }

  protected void onFree(long address, long nBytes) {
    throw new UnsupportedOperationException();
  }

  /** The first exception since the last call, or null. */
  public final Throwable takeThrown() {
    return thrown.getAndSet(null);
  }

  /** Throws, as it is, what user code threw in a callback. */
  public final void rethrow() {
    Throwable cause = takeThrown();
    if (cause != null) {
      throwUnchecked(cause);
    }
  }

  @SuppressWarnings("unchecked")
  private static <T extends Throwable> void throwUnchecked(Throwable cause) throws T {
    throw (T) cause;
  }

  final int progress(long done, long total) {
    try {
      return onProgress(done, total) ? GO_ON : STOP;
    } catch (Throwable t) {
      return stopFor(t);
    }
  }

  final int token(
      int finishReason,
      int token,
      int position,
      byte[] text,
      float logProb,
      int[] alternativeTokens,
      float[] alternativeLogProbs) {
    try {
      boolean goOn =
          onToken(
              finishReason, token, position, text, logProb, alternativeTokens, alternativeLogProbs);
      return goOn ? GO_ON : STOP;
    } catch (Throwable t) {
      return stopFor(t);
    }
  }

  final int window(int window, int nWindows, double windowNll) {
    try {
      return onWindow(window, nWindows, windowNll) ? GO_ON : STOP;
    } catch (Throwable t) {
      return stopFor(t);
    }
  }

  final int question(
      int question, int nQuestions, int answer, int best, int bestNorm, double[] scores) {
    try {
      return onQuestion(question, nQuestions, answer, best, bestNorm, scores) ? GO_ON : STOP;
    } catch (Throwable t) {
      return stopFor(t);
    }
  }

  /** Null tells the library that the bytes cannot be read. */
  final byte[] read(long offset, int nBytes) {
    try {
      byte[] bytes = onRead(offset, nBytes);
      if (bytes.length != nBytes) {
        throw new IllegalStateException(bytes.length + " bytes read, expected " + nBytes);
      }
      return bytes;
    } catch (Throwable t) {
      stopFor(t);
      return null;
    }
  }

  /** There is no caller to throw at: an exception goes where uncaught ones go. */
  final void log(int level, byte[] text) {
    try {
      onLog(level, text);
    } catch (Throwable t) {
      reportUncaught(t);
    }
  }

  /** 0 tells the library that there is no memory. */
  final long allocate(long nBytes, long alignment) {
    try {
      return onAllocate(nBytes, alignment);
    } catch (OutOfMemoryError e) {
      return 0;
    } catch (Throwable t) {
      reportUncaught(t);
      return 0;
    }
  }

  final void free(long address, long nBytes) {
    try {
      onFree(address, nBytes);
    } catch (Throwable t) {
      reportUncaught(t);
    }
  }

  private int stopFor(Throwable t) {
    thrown.compareAndSet(null, t);
    return STOP;
  }

  private static void reportUncaught(Throwable t) {
    Thread thread = Thread.currentThread();
    thread.getUncaughtExceptionHandler().uncaughtException(thread, t);
  }
}
