package org.flexq;

import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import org.flexq.internal.Callback;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.Utf8;

/**
 * One answer: created by a {@link Context}, started once, run to its end by run, runAsync, or next
 * and iterator. Used by one thread at a time, with the context; cancel and close may come from any.
 *
 * <p>Afterwards the sequence holds the prompt and all generated tokens but the last, whose keys and
 * values nobody needed yet (to go on behind an answer that did not end with an end token, begin the
 * next prompt with that token).
 */
public final class Generator implements Iterable<TokenEvent>, AutoCloseable {
  private static final int LIKELY_TOKENS = 256;
  private static final int LIKELY_BYTES = 1024;

  private final NativeHandle handle;

  Generator(long address) {
    handle = new NativeHandle("Generator", address, FlexqNative::flexq_generator_release);
  }

  /**
   * Sets the prompt, with BOS where the sequence is empty and the model wants it. Computes nothing
   * yet, starts the deadline.
   *
   * @param prompt appended to what the sequence already holds
   * @throws FlexqException as {@link #start(String, Set)}
   */
  public void start(String prompt) {
    start(prompt, EncodeFlag.DEFAULT);
  }

  /**
   * Sets the prompt. Computes nothing yet, starts the deadline.
   *
   * @param prompt appended to what the sequence already holds
   * @param flags see {@link EncodeFlag}
   * @throws FlexqException INVALID_STATE (started before), INVALID_ARGUMENT (a prompt without a
   *     token), CONTEXT_FULL (prompt tokens and context length in the message)
   */
  public void start(String prompt, Set<EncodeFlag> flags) {
    byte[] utf8 = Utf8.bytes(prompt);
    try (NativeHandle.Use generator = handle.use()) {
      FlexqNative.flexq_generator_start(generator.address, utf8, EncodeFlag.bits(flags));
    }
  }

  /**
   * Sets the prompt as token ids. Computes nothing yet, starts the deadline.
   *
   * @param tokens appended to what the sequence already holds
   * @throws FlexqException INVALID_STATE (started before), INVALID_ARGUMENT (no token, a token
   *     outside the vocabulary), CONTEXT_FULL
   */
  public void start(int... tokens) {
    try (NativeHandle.Use generator = handle.use()) {
      FlexqNative.flexq_generator_start_tokens(generator.address, tokens);
    }
  }

  /**
   * Computes the next token; the first call also computes the prompt. After an exception what was
   * generated before stays readable.
   *
   * @return a token, or the last event
   * @throws FlexqException CANCELLED, DEADLINE_EXCEEDED, CONTEXT_FULL (no free page), NON_FINITE,
   *     INVALID_STATE (not started, or ended)
   */
  public TokenEvent next() {
    TokenEvent[] next = new TokenEvent[1];
    Callback receiver =
        Callbacks.token(
            event -> {
              next[0] = event;
              return true;
            });
    try (NativeHandle.Use generator = handle.use()) {
      FlexqNative.flexq_generator_next(generator.address, receiver);
      receiver.rethrow();
      return next[0];
    }
  }

  /**
   * Runs the answer to its end.
   *
   * @param listener hears of every event; false ends the answer there; may be null
   * @return why it ended; CANCELLED where the listener ended it
   * @throws FlexqException as {@link #next()}
   */
  public FinishReason run(TokenListener listener) {
    Callback callback = Callbacks.token(listener);
    try (NativeHandle.Use generator = handle.use()) {
      try {
        Callbacks.run(
            callback,
            token ->
                FlexqNative.flexq_generator_run(
                    generator.address, token.isSet(), token.userData()));
      } catch (FlexqException e) {
        if (e.code() != FlexqException.STOPPED_BY_CALLBACK) {
          throw e;
        }
      }
      return GeneratorStats.of(generator.address).finishReason();
    }
  }

  /**
   * Runs the answer on a thread of its own. Cancelling the future cancels the generator; its thread
   * leaves the context within one token's time.
   *
   * @param listener hears of every event, on that thread; may be null
   * @return why it ended; completes exceptionally with what run would throw
   */
  public CompletableFuture<FinishReason> runAsync(TokenListener listener) {
    return runAsync(listener, GenerationFuture.OWN_THREAD);
  }

  /**
   * Runs the answer on an executor, one of whose threads it blocks.
   *
   * @param listener hears of every event, on that thread; may be null
   * @param executor where to run
   * @return why it ended; completes exceptionally with what run would throw
   */
  public CompletableFuture<FinishReason> runAsync(TokenListener listener, Executor executor) {
    handle.checkOpen();
    return new GenerationFuture<>(this, () -> run(listener), executor);
  }

  /**
   * The events of the answer, each computed when it is asked for.
   *
   * @return to be used once
   */
  @Override
  public TokenIterator iterator() {
    handle.checkOpen();
    return new TokenIterator(this::next, this::close);
  }

  /**
   * From any thread: ends this generator's call, in the prompt too, with CANCELLED. A latch of this
   * generator: a cancel before the start is not lost, and no other generator sees it.
   */
  public void cancel() {
    try (NativeHandle.Use generator = handle.use()) {
      FlexqNative.flexq_generator_cancel(generator.address);
    }
  }

  /** For who cannot know whether the generation is over. */
  void cancelIfOpen() {
    try {
      cancel();
    } catch (IllegalStateException closed) {
      // Nothing is left to cancel.
    }
  }

  /**
   * Counts and times.
   *
   * @return as of now
   */
  public GeneratorStats stats() {
    try (NativeHandle.Use generator = handle.use()) {
      return GeneratorStats.of(generator.address);
    }
  }

  /**
   * The prompt's token ids.
   *
   * @return BOS included
   */
  public int[] promptTokens() {
    try (NativeHandle.Use generator = handle.use()) {
      return Buffers.tokens(
          LIKELY_TOKENS,
          (tokens, length) ->
              FlexqNative.flexq_generator_prompt_tokens(generator.address, tokens, length));
    }
  }

  /**
   * The generated token ids.
   *
   * @return so far
   */
  public int[] tokens() {
    try (NativeHandle.Use generator = handle.use()) {
      return Buffers.tokens(
          LIKELY_TOKENS,
          (tokens, length) ->
              FlexqNative.flexq_generator_tokens(generator.address, tokens, length));
    }
  }

  /**
   * The generated text: decode(prompt + generated) minus decode(prompt), cut at a stop string.
   *
   * @return so far
   */
  public String text() {
    try (NativeHandle.Use generator = handle.use()) {
      return Utf8.string(
          Buffers.bytes(
              LIKELY_BYTES,
              (bytes, length) ->
                  FlexqNative.flexq_generator_text(generator.address, bytes, length)));
    }
  }

  /** Cancels a call that another thread is inside of, and gives everything back when it is out. */
  @Override
  public void close() {
    cancelIfOpen();
    handle.close();
  }
}
