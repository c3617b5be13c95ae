package org.flexq;

import java.nio.ByteBuffer;
import org.flexq.internal.Callback;
import org.flexq.internal.CallbackReference;

/** From the listeners of this package to what native code calls. */
final class Callbacks {
  private Callbacks() {}

  /** A native operation that may call back, by the given user_data (0: no callback). */
  interface Operation {
    void run(CallbackReference reference);
  }

  /** Runs it, and throws what its callback threw rather than the status that this led to. */
  static void run(Callback callback, Operation operation) {
    try (CallbackReference reference = new CallbackReference(callback)) {
      operation.run(reference);
    } catch (FlexqException e) {
      callback.rethrow();
      throw e;
    }
    // Thrown in the very last call, which stops nothing any more.
    callback.rethrow();
  }

  static Callback progress(ProgressListener listener) {
    if (listener == null) {
      return Callback.NONE;
    }
    return new Callback() {
      @Override
      protected boolean onProgress(long done, long total) {
        return listener.onProgress(done, total);
      }
    };
  }

  static Callback token(TokenListener listener) {
    if (listener == null) {
      return Callback.NONE;
    }
    return new Callback() {
      @Override
      protected boolean onToken(
          int finishReason,
          int token,
          int position,
          byte[] text,
          float logProb,
          int[] alternativeTokens,
          float[] alternativeLogProbs) {
        return listener.onToken(
            TokenEvent.of(
                finishReason,
                token,
                position,
                text,
                logProb,
                alternativeTokens,
                alternativeLogProbs));
      }
    };
  }

  static Callback window(WindowListener listener) {
    if (listener == null) {
      return Callback.NONE;
    }
    return new Callback() {
      @Override
      protected boolean onWindow(int window, int nWindows, double windowNll) {
        return listener.onWindow(window, nWindows, windowNll);
      }
    };
  }

  /** Two listeners behind one user_data; either may be null. */
  static Callback choices(ProgressListener progress, QuestionListener questions) {
    if (progress == null && questions == null) {
      return Callback.NONE;
    }
    return new Callback() {
      @Override
      protected boolean onProgress(long done, long total) {
        return progress.onProgress(done, total);
      }

      @Override
      protected boolean onQuestion(
          int question, int nQuestions, int answer, int best, int bestNorm, double[] scores) {
        return questions.onQuestion(
            QuestionResult.of(question, nQuestions, answer, best, bestNorm, scores));
      }
    };
  }

  static Callback reader(SourceReader reader) {
    return new Callback() {
      @Override
      protected byte[] onRead(long offset, int nBytes) throws Exception {
        byte[] bytes = new byte[nBytes];
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        reader.read(offset, buffer);
        if (buffer.hasRemaining()) {
          throw new IllegalStateException(
              "the reader left " + buffer.remaining() + " of " + nBytes + " bytes empty");
        }
        return bytes;
      }
    };
  }
}
