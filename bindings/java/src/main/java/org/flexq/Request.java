package org.flexq;

import java.time.Duration;
import org.flexq.internal.Callback;
import org.flexq.internal.FlexqNative;

/**
 * A request to an {@link Engine}, and its answer. Events wait until they are fetched; nobody waits
 * for who fetches them. Read by one thread at a time (a second reader gets IllegalStateException);
 * cancel, stats and close may come from any.
 */
public final class Request implements Iterable<TokenEvent>, AutoCloseable {
  private static final int LIKELY_TOKENS = 256;
  private static final long WITHOUT_END = -1;

  private final NativeHandle handle;

  /** engine: one that nobody could reach would be closed, and end its requests. */
  Request(long address, NativeHandle engine) {
    handle = new NativeHandle("Request", address, FlexqNative::flexq_request_release, engine);
  }

  /**
   * Waits for the next event of the answer. An interrupt does not end that, a cancel and a close
   * do.
   *
   * @return a token, or the last event
   * @throws FlexqException CANCELLED, DEADLINE_EXCEEDED, CONTEXT_FULL (no free page), NON_FINITE,
   *     INVALID_STATE (ended)
   */
  public TokenEvent next() {
    return next(WITHOUT_END);
  }

  /**
   * The next event of the answer, where it comes in time.
   *
   * @param timeout how long to wait for it, in whole milliseconds; zero and less: not at all
   * @return null: there is none yet
   * @throws FlexqException as {@link #next()}
   */
  public TokenEvent next(Duration timeout) {
    TokenEvent event = next(Math.max(timeout.toMillis(), 0));
    boolean isNone = event.token() < 0 && !event.isLast();
    return isNone ? null : event;
  }

  private TokenEvent next(long timeoutMs) {
    TokenEvent[] next = new TokenEvent[1];
    Callback receiver =
        Callbacks.token(
            event -> {
              next[0] = event;
              return true;
            });
    try (NativeHandle.Use request = handle.useAlone()) {
      FlexqNative.flexq_request_next(request.address, timeoutMs, receiver);
      receiver.rethrow();
      return next[0];
    }
  }

  /**
   * The events of the answer, each waited for when it is asked for.
   *
   * @return to be used once
   */
  @Override
  public TokenIterator iterator() {
    handle.checkOpen();
    return new TokenIterator(this::next, this::close);
  }

  /**
   * From any thread: ends the request, waiting or running, with CANCELLED, before the engine's next
   * step at the latest. Events that are there already can still be read.
   */
  public void cancel() {
    try (NativeHandle.Use request = handle.use()) {
      FlexqNative.flexq_request_cancel(request.address);
    }
  }

  /**
   * Counts and times. From any thread.
   *
   * @return as of now
   */
  public RequestStats stats() {
    try (NativeHandle.Use request = handle.use()) {
      return RequestStats.of(request.address);
    }
  }

  /**
   * The prompt's token ids.
   *
   * @return BOS included
   */
  public int[] promptTokens() {
    try (NativeHandle.Use request = handle.useAlone()) {
      return Buffers.tokens(
          LIKELY_TOKENS,
          (tokens, length) ->
              FlexqNative.flexq_request_prompt_tokens(request.address, tokens, length));
    }
  }

  /** Cancels the request. A thread that waits in next gets CANCELLED. */
  @Override
  public void close() {
    try {
      cancel();
    } catch (IllegalStateException closed) {
      // Nothing is left to cancel.
    }
    handle.close();
  }
}
