package org.flexq;

import java.nio.file.Path;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.Utf8;

/** Questions with two or more choices of which one is right. Immutable and thread-safe. */
public final class Questions implements AutoCloseable {
  private final NativeHandle handle;

  private Questions(long address) {
    handle = new NativeHandle("Questions", address, FlexqNative::flexq_questions_release);
  }

  /**
   * Reads the questions of a published task.
   *
   * @param task "piqa", "arc" (easy and challenge), "boolq", "winogrande" (one JSON object a line,
   *     as published), "hellaswag" (six lines of text a question: context, index of the right
   *     ending, four endings)
   * @param path of the file
   * @return the questions, to be closed
   * @throws FlexqException UNSUPPORTED_VALUE (task), NOT_FOUND, IO, CORRUPT (the message names file
   *     and line), LIMIT_EXCEEDED (over 2^28 bytes)
   */
  public static Questions open(String task, Path path) {
    byte[] taskName = Utf8.zeroTerminated(task);
    byte[] pathName = Utf8.zeroTerminated(path.toString());
    return new Questions(
        NativeObject.make(out -> FlexqNative.flexq_questions_open(taskName, pathName, out)));
  }

  /**
   * Number of questions.
   *
   * @return 1 or more
   */
  public int count() {
    try (NativeHandle.Use questions = handle.use()) {
      return FlexqNative.flexq_questions_count(questions.address);
    }
  }

  @Override
  public void close() {
    handle.close();
  }

  NativeHandle.Use use() {
    return handle.use();
  }
}
