package org.flexq;

import java.util.Iterator;
import java.util.NoSuchElementException;

/**
 * The events of an answer, each computed when it is asked for. Closing it closes its generator: the
 * answer ends there, and the sequence keeps what was computed.
 */
public final class TokenIterator implements Iterator<TokenEvent>, AutoCloseable {
  private final Generator generator;
  private boolean ended;

  TokenIterator(Generator generator) {
    this.generator = generator;
  }

  /**
   * Whether there is another event. Computes nothing.
   *
   * @return false after the last event, after an exception, and when closed
   */
  @Override
  public boolean hasNext() {
    return !ended;
  }

  /**
   * Computes the next event.
   *
   * @return the event
   * @throws FlexqException as {@link Generator#next()}
   */
  @Override
  public TokenEvent next() {
    if (ended) {
      throw new NoSuchElementException("the answer has ended");
    }
    ended = true;
    TokenEvent event = generator.next();
    ended = event.isLast();
    return event;
  }

  @Override
  public void close() {
    ended = true;
    generator.close();
  }
}
