package org.flexq;

import static org.flexq.TestData.PROMPT;
import static org.flexq.TestData.assertFails;
import static org.flexq.TestData.tokens;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class StreamTest {
  private Model model;
  private Context context;

  @BeforeEach
  void open() {
    model = TestData.stories();
    context = model.createContext();
  }

  @AfterEach
  void close() {
    context.close();
    model.close();
  }

  /** That the context answers as a new one does. */
  private void assertGoesOn() {
    context.rewind(0, 0);
    String expected;
    try (Context other = model.createContext()) {
      expected = other.generate(PROMPT, tokens(12));
    }
    assertEquals(expected, context.generate(PROMPT, tokens(12)));
  }

  @Scenario("stream_callback")
  void streamCallback() {
    try (Model scripted = Model.load(TestData.SCRIPTED);
        Context scriptedContext = scripted.createContext()) {
      List<String> pieces = new ArrayList<>();
      String text =
          scriptedContext.generate(
              "Hello",
              tokens(120),
              event -> {
                pieces.add(event.text());
                return true;
              });
      assertEquals(text, String.join("", pieces));
      assertTrue(text.codePoints().anyMatch(c -> c > 0xffff), "no emoji in " + text);
      // One byte a token: most pieces are empty, and none ends inside a character.
      assertTrue(pieces.stream().anyMatch(String::isEmpty));
      for (String piece : pieces.subList(0, pieces.size() - 1)) {
        assertFalse(piece.contains("\ufffd"), piece);
        assertFalse(piece.length() == 1 && Character.isSurrogate(piece.charAt(0)), piece);
      }
    }
  }

  @Scenario("stream_iterator")
  void streamIterator() {
    String expected = context.generate(PROMPT, tokens(20));
    context.rewind(0, 0);
    StringBuilder text = new StringBuilder();
    try (Generator generator = context.start(PROMPT, tokens(20))) {
      TokenEvent last = null;
      for (TokenEvent event : generator) {
        text.append(event.text());
        last = event;
      }
      assertEquals(expected, text.toString());
      assertEquals(FinishReason.LENGTH, last.finishReason());
      assertEquals(-1, last.token());
    }
    context.rewind(0, 0);
    Generator generator = context.start(PROMPT, tokens(20));
    TokenIterator iterator = generator.iterator();
    try (iterator) {
      assertEquals(FinishReason.NONE, iterator.next().finishReason());
      assertTrue(iterator.hasNext());
    }
    assertFalse(iterator.hasNext());
    assertThrows(NoSuchElementException.class, iterator::next);
    assertThrows(IllegalStateException.class, generator::next);
    assertGoesOn();
  }

  @Scenario("stream_async")
  void streamAsync() throws Exception {
    String expected = context.generate(PROMPT, tokens(20));
    context.rewind(0, 0);
    StringBuffer text = new StringBuffer();
    Thread[] thread = new Thread[1];
    CompletableFuture<String> future =
        context.generateAsync(
            PROMPT,
            tokens(20),
            event -> {
              thread[0] = Thread.currentThread();
              text.append(event.text());
              return true;
            });
    assertEquals(expected, future.get(60, TimeUnit.SECONDS));
    assertEquals(expected, text.toString());
    assertFalse(thread[0] == Thread.currentThread());

    context.rewind(0, 0);
    try (Generator generator = context.start(PROMPT, tokens(20))) {
      assertEquals(FinishReason.LENGTH, generator.runAsync(null).get(60, TimeUnit.SECONDS));
      assertEquals(expected, generator.text());
    }
    context.rewind(0, 0);
    RuntimeException mine = new RuntimeException("mine");
    CompletableFuture<String> failing =
        context.generateAsync(
            PROMPT,
            tokens(20),
            event -> {
              throw mine;
            });
    ExecutionException e =
        assertThrows(ExecutionException.class, () -> failing.get(60, TimeUnit.SECONDS));
    assertSame(mine, e.getCause());
  }

  @Scenario("token_events")
  void tokenEvents() {
    List<TokenEvent> events = new ArrayList<>();
    try (Generator generator = context.start(PROMPT, tokens(10).logProbs(3))) {
      generator.run(events::add);
      int nPrompt = generator.promptTokens().length;
      assertEquals(11, events.size());
      for (int i = 0; i < 10; i++) {
        TokenEvent event = events.get(i);
        assertFalse(event.isLast());
        assertEquals(generator.tokens()[i], event.token());
        assertEquals(nPrompt + i, event.position());
        assertTrue(event.logProb() <= 0);
        assertEquals(3, event.alternatives().size());
        // Greedy: the token is the most probable one.
        assertEquals(event.token(), event.alternatives().get(0).token());
        assertEquals(event.logProb(), event.alternatives().get(0).logProb());
        assertTrue(event.logProb() >= event.alternatives().get(1).logProb());
        assertThrows(
            UnsupportedOperationException.class, () -> event.alternatives().remove(0));
      }
      assertTrue(events.get(10).isLast());
      GeneratorStats stats = generator.stats();
      assertEquals(FinishReason.LENGTH, stats.finishReason());
      assertEquals(nPrompt, stats.nPromptTokens());
      assertEquals(10, stats.nGeneratedTokens());
      assertTrue(stats.prefillNs() > 0 && stats.decodeNs() > 0);
      assertTrue(stats.timeToFirstTokenNs() >= stats.prefillNs());
    }
    assertFails(
        FlexqException.INVALID_ARGUMENT,
        () -> context.createGenerator(new GeneratorOptions().logProbs(21)));
    context.rewind(0, 0);
    // A stop string and a stop token end the answer where they occur.
    String text = context.generate(PROMPT, tokens(30));
    String stop = text.substring(8, 12);
    context.rewind(0, 0);
    assertEquals(
        text.substring(0, text.indexOf(stop)), context.generate(PROMPT, tokens(30).stop(stop)));
    context.rewind(0, 0);
    GeneratorOptions options =
        new GeneratorOptions().maxTokens(30).stopToken(events.get(4).token());
    try (Generator generator = context.start(PROMPT, options)) {
      assertEquals(FinishReason.STOP, generator.run(null));
      assertTrue(generator.tokens().length <= 5);
    }
  }

  @Scenario("json_answer")
  void jsonAnswer() {
    for (int n : new int[] {2, 3, 12, 40}) {
      GeneratorOptions options =
          tokens(n).format("json").priority(100).sampling(new SamplingOptions().temperature(1));
      try (Generator generator = context.start(PROMPT, options)) {
        assertEquals(FinishReason.STOP, generator.run(null));
        String text = generator.text().strip();
        assertTrue(n == 2 ? text.equals("{}") : text.startsWith("{") && text.endsWith("}"), text);
      }
      context.rewind(0, 0);
    }
    context.generate(PROMPT, tokens(2).format("text"));
    context.rewind(0, 0);
    assertFails(
        FlexqException.UNSUPPORTED_VALUE,
        () -> context.createGenerator(new GeneratorOptions().format("yaml")));
    assertFails(
        FlexqException.INVALID_ARGUMENT,
        () -> context.createGenerator(new GeneratorOptions().priority(101)));
  }

  @Scenario("stop_in_callback")
  void stopInCallback() {
    List<TokenEvent> events = new ArrayList<>();
    try (Generator generator = context.start(PROMPT, tokens(100))) {
      FinishReason reason =
          generator.run(
              event -> {
                events.add(event);
                return events.size() < 5;
              });
      assertEquals(FinishReason.CANCELLED, reason);
      assertEquals(5, events.size());
      assertArrayEquals(
          events.stream().mapToInt(TokenEvent::token).toArray(), generator.tokens());
    }
    assertGoesOn();
  }

  private static final class MyError extends Error {
    private static final long serialVersionUID = 1L;
  }

  @Scenario("exception_in_callback")
  void exceptionInCallback() {
    RuntimeException mine = new RuntimeException("mine");
    MyError error = new MyError();
    for (Throwable thrown : List.of(mine, error)) {
      AtomicInteger events = new AtomicInteger();
      Throwable caught =
          assertThrows(
              Throwable.class,
              () ->
                  context.generate(
                      PROMPT,
                      tokens(50),
                      event -> {
                        if (events.incrementAndGet() == 3) {
                          StreamTest.<RuntimeException>sneak(thrown);
                        }
                        return true;
                      }));
      assertSame(thrown, caught);
      assertEquals(3, events.get());
      assertGoesOn();
      context.rewind(0, 0);
    }
    // In the first progress callback, and in the last one, after which nothing can be stopped.
    for (boolean last : new boolean[] {false, true}) {
      ModelOptions options =
          new ModelOptions()
              .progress(
                  (done, total) -> {
                    if (!last || done == total) {
                      throw mine;
                    }
                    return true;
                  });
      assertSame(
          mine,
          assertThrows(RuntimeException.class, () -> Model.load(TestData.STORIES, options)));
    }
    // What a callback does with other objects is its own business, and so are its failures.
    String text =
        context.generate(
            PROMPT,
            tokens(5),
            event -> {
              assertFails(FlexqException.INVALID_STATE, () -> context.rewind(0, 0));
              try (Context other = model.createContext()) {
                return !other.generate(PROMPT, tokens(2)).isEmpty();
              }
            });
    context.rewind(0, 0);
    assertEquals(context.generate(PROMPT, tokens(5)), text);
  }

  @SuppressWarnings("unchecked")
  private static <T extends Throwable> void sneak(Throwable t) throws T {
    throw (T) t;
  }

  @Scenario("cancel_other_thread")
  void cancelOtherThread() throws InterruptedException {
    AtomicInteger events = new AtomicInteger();
    CountDownLatch started = new CountDownLatch(1);
    CountDownLatch cancelled = new CountDownLatch(1);
    try (Generator generator = context.start(PROMPT, tokens(400))) {
      Thread canceller =
          new Thread(
              () -> {
                try {
                  started.await();
                } catch (InterruptedException e) {
                  return;
                }
                generator.cancel();
                cancelled.countDown();
              });
      canceller.start();
      assertFails(
          FlexqException.CANCELLED,
          () ->
              generator.run(
                  event -> {
                    if (events.incrementAndGet() == 10) {
                      started.countDown();
                      await(cancelled);
                    }
                    return true;
                  }));
      canceller.join();
      // The token that was under way may still come.
      assertTrue(events.get() <= 11, events + " events");
      assertEquals(FinishReason.CANCELLED, generator.stats().finishReason());
      assertTrue(generator.tokens().length >= 10);
    }
    assertGoesOn();

    context.rewind(0, 0);
    try (Generator early = context.createGenerator(tokens(10))) {
      early.cancel();
      early.start(PROMPT);
      assertFails(FlexqException.CANCELLED, () -> early.run(null));
      assertEquals(0, early.tokens().length);
    }
    try (Batch batch = new Batch().add(0, Output.LAST, 1, 2, 3)) {
      batch.cancel();
      assertFails(FlexqException.CANCELLED, () -> context.decode(batch));
      context.decode(batch.clear().add(0, Output.LAST, 1));
    }
    assertGoesOn();
  }

  @Scenario("cancel_token")
  void cancelToken() throws InterruptedException {
    CountDownLatch started = new CountDownLatch(1);
    AtomicInteger events = new AtomicInteger();
    CompletableFuture<String> future =
        context.generateAsync(
            PROMPT,
            tokens(400),
            event -> {
              started.countDown();
              events.incrementAndGet();
              return true;
            });
    started.await();
    assertTrue(future.cancel(true));
    assertThrows(CancellationException.class, future::join);
    awaitIdle();
    assertTrue(events.get() < 400, "the answer ran to its end");
    assertGoesOn();

    context.rewind(0, 0);
    ExecutorService executor = Executors.newSingleThreadExecutor();
    try (Generator generator = context.start(PROMPT, tokens(400))) {
      CompletableFuture<FinishReason> run = generator.runAsync(null, executor);
      assertTrue(run.cancel(false));
      assertTrue(run.isCancelled());
      executor.shutdown();
      assertTrue(executor.awaitTermination(30, TimeUnit.SECONDS));
      assertEquals(FinishReason.CANCELLED, generator.stats().finishReason());
    }
    assertGoesOn();
  }

  @Scenario("deadline")
  void deadline() {
    try (Generator generator =
        context.start(PROMPT, tokens(400).deadline(Duration.ofMillis(20)))) {
      FlexqException e =
          assertFails(
              FlexqException.DEADLINE_EXCEEDED,
              () ->
                  generator.run(
                      event -> {
                        sleep(5);
                        return true;
                      }));
      assertEquals("DEADLINE_EXCEEDED", e.name());
      assertEquals(FinishReason.DEADLINE, generator.stats().finishReason());
    }
    assertGoesOn();
  }

  @Test
  void aGeneratorIsStartedOnce() {
    try (Generator generator = context.createGenerator(null)) {
      assertFails(FlexqException.INVALID_STATE, generator::next);
      assertFails(FlexqException.INVALID_ARGUMENT, generator::start);
      generator.start(PROMPT, EncodeFlag.PLAIN);
      FlexqException e =
          assertFails(FlexqException.INVALID_STATE, () -> generator.start(PROMPT));
      assertInstanceOf(RuntimeException.class, e);
    }
  }

  /** Until no thread is inside the context. */
  private void awaitIdle() {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
    while (context.sequenceLength(0) < 0) {
      assertTrue(System.nanoTime() < end, "the generation goes on after its cancel");
      sleep(1);
    }
  }

  private static void await(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      throw new AssertionError(e);
    }
  }

  private static void sleep(long milliseconds) {
    try {
      Thread.sleep(milliseconds);
    } catch (InterruptedException e) {
      throw new AssertionError(e);
    }
  }
}
