package org.flexq;

import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.function.Supplier;

/**
 * The events of an answer, each computed or waited for when it is asked for. Closing it closes its
 * generator or request: the answer ends there, and a generator's sequence keeps what was computed.
 */
public final class TokenIterator implements Iterator<TokenEvent>, AutoCloseable {
  private final Supplier<TokenEvent> events;
  private final Runnable closing;
  private boolean ended;

  TokenIterator(Supplier<TokenEvent> events, Runnable closing) {
    this.events = events;
    this.closing = closing;
  }

  /**
   * Whether there is another event. Computes nothing and does not wait.
   *
   * @return false after the last event, after an exception, and when closed
   */
  @Override
  public boolean hasNext() {
    return !ended;
  }

  /**
   * Computes the next event, or waits for it.
   *
   * @return the event
   * @throws FlexqException as {@link Generator#next()} and {@link Request#next()}
   */
  @Override
  public TokenEvent next() {
    if (ended) {
      throw new NoSuchElementException("the answer has ended");
    }
    ended = true;
    TokenEvent event = events.get();
    ended = event.isLast();
    return event;
  }

  @Override
  public void close() {
    ended = true;
    closing.run();
  }
}
