package org.flexq;

import static org.flexq.TestData.PROMPT;
import static org.flexq.TestData.assertFails;
import static org.flexq.TestData.tokens;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;

class EngineTest {
  private static final int LONG = 400; // tokens
  private static final int MANY = 64; // requests: more work than any test waits for
  private static Model model;

  @BeforeAll
  static void open() {
    model = TestData.stories();
  }

  @AfterAll
  static void close() {
    model.close();
  }

  private static Context context(int nSequences) {
    return model.createContext(new ContextOptions().sequences(nSequences));
  }

  /** The events of a generator on a context of its own. */
  private static List<TokenEvent> alone(int[] prompt, GeneratorOptions options) {
    List<TokenEvent> events = new ArrayList<>();
    try (Context context = context(1);
        Generator generator = context.createGenerator(options)) {
      generator.start(prompt);
      generator.run(events::add);
    }
    return events;
  }

  private static int[] encode(String text) {
    try (Tokenizer tokenizer = model.tokenizer()) {
      return tokenizer.encode(text);
    }
  }

  private static List<TokenEvent> read(Request request) {
    List<TokenEvent> events = new ArrayList<>();
    for (TokenEvent event : request) {
      events.add(event);
    }
    return events;
  }

  private static List<TokenEvent> readByTimeouts(Request request) {
    List<TokenEvent> events = new ArrayList<>();
    while (events.isEmpty() || !events.get(events.size() - 1).isLast()) {
      TokenEvent event = request.next(Duration.ofMillis(2));
      if (event != null) {
        events.add(event);
      }
    }
    return events;
  }

  private static String prompt(int i) {
    return PROMPT + ", there was a little girl named Lily. " + "She had a 😀 cat. ".repeat(i % 4);
  }

  private static GeneratorOptions options(int i) {
    GeneratorOptions options =
        tokens(16 + i % 5)
            .sampling(new SamplingOptions().temperature(0.9f).seed(i))
            .logProbs(i % 3)
            .priority(i % 4);
    return i % 4 == 0 ? options.format("json") : options;
  }

  @Scenario("engine_requests")
  void engineRequests() throws Exception {
    final int nThreads = 4;
    final int nEach = 8;
    ExecutorService pool = Executors.newFixedThreadPool(nThreads);
    try (Context context = context(6);
        Engine engine = context.createEngine(new EngineOptions().stepTokens(24))) {
      List<Future<List<List<TokenEvent>>>> threads = new ArrayList<>();
      for (int thread = 0; thread < nThreads; thread++) {
        int first = thread * nEach;
        threads.add(
            pool.submit(
                () -> {
                  List<Request> requests = new ArrayList<>();
                  for (int i = first; i < first + nEach; i++) {
                    requests.add(engine.submit(prompt(i), options(i)));
                  }
                  List<List<TokenEvent>> answers = new ArrayList<>();
                  for (Request request : requests) {
                    try (request) {
                      answers.add(
                          answers.size() % 2 == 0 ? read(request) : readByTimeouts(request));
                    }
                  }
                  return answers;
                }));
      }
      for (int thread = 0; thread < nThreads; thread++) {
        List<List<TokenEvent>> answers = threads.get(thread).get(120, TimeUnit.SECONDS);
        for (int i = 0; i < nEach; i++) {
          int request = thread * nEach + i;
          assertEquals(
              alone(encode(prompt(request)), options(request)),
              answers.get(i),
              "request " + request);
        }
      }
    } finally {
      pool.shutdown();
    }
  }

  @Scenario("engine_chat")
  void engineChat() {
    try (Tokenizer tokenizer = model.tokenizer();
        Chat chat = new Chat().add("system", "Be brief.").add("user", "Tell me a story 😀");
        Context context = context(2);
        Engine engine = context.createEngine(null)) {
      int[] conversation = tokenizer.encodeChat("vicuna", chat, true);
      GeneratorOptions withStops = tokens(30).chatStops(tokenizer, "vicuna");
      List<TokenEvent> expected = alone(conversation, withStops);
      try (Request byChat = engine.submitChat("vicuna", chat, tokens(30));
          Request byTokens = engine.submitTokens(conversation, withStops)) {
        assertArrayEquals(conversation, byChat.promptTokens());
        assertEquals(expected, read(byChat));
        assertEquals(expected, read(byTokens));
      }
      assertFails(FlexqException.NOT_FOUND, () -> engine.submitChat(null, chat, null));
      // Not held after a failure.
      assertFails(
          FlexqException.INVALID_ARGUMENT, () -> engine.submitChat("vicuna", chat.clear(), null));
    }
  }

  /** Reads to the end: whether that is CANCELLED. */
  private static boolean endsCancelled(Request request) {
    try {
      read(request);
      return false;
    } catch (FlexqException e) {
      assertEquals(FlexqException.CANCELLED, e.code(), e.toString());
      return true;
    }
  }

  @Scenario("engine_cancel")
  void engineCancel() {
    List<Request> requests = new ArrayList<>();
    try (Context context = context(1);
        Engine engine = context.createEngine(null)) {
      for (int i = 0; i < MANY; i++) {
        requests.add(engine.submit(PROMPT, tokens(LONG)));
      }
      // Behind all of these.
      Request last = engine.submit(PROMPT, tokens(LONG));
      Request late = engine.submit(PROMPT, tokens(LONG).deadline(Duration.ofMillis(1)));
      requests.add(last);
      requests.add(late);
      assertNull(last.next(Duration.ZERO));
      assertEquals(FinishReason.NONE, last.stats().finishReason());
      last.cancel();
      assertFails(FlexqException.CANCELLED, last::next);
      assertFails(FlexqException.INVALID_STATE, last::next);
      assertEquals(FinishReason.CANCELLED, last.stats().finishReason());
      assertEquals(0, last.stats().nGeneratedTokens());
      assertFails(FlexqException.DEADLINE_EXCEEDED, late::next);
      assertEquals(FinishReason.DEADLINE, late.stats().finishReason());

      // Those that run; one may be done before its cancel.
      int nCancelled = 0;
      for (Request running : requests.subList(0, 6)) {
        assertEquals(FinishReason.NONE, running.next().finishReason());
        running.cancel();
        nCancelled += endsCancelled(running) ? 1 : 0;
      }
      assertTrue(nCancelled > 0, "no request was cancelled while it ran");
      assertEquals(alone(encode(PROMPT), tokens(LONG)), read(requests.get(6)));
    } finally {
      requests.forEach(Request::close);
    }
  }

  @Scenario("engine_close")
  void engineClose() throws Exception {
    ExecutorService pool = Executors.newSingleThreadExecutor();
    for (int round = 0; round < 20; round++) {
      boolean closesEngine = round % 2 == 0;
      List<Request> requests = new ArrayList<>();
      try (Context context = context(1)) {
        Engine engine = context.createEngine(null);
        for (int i = 0; i < MANY; i++) {
          requests.add(engine.submit(PROMPT, tokens(LONG)));
        }
        Request waiting = engine.submit(PROMPT, tokens(LONG));
        CountDownLatch started = new CountDownLatch(1);
        Future<List<TokenEvent>> reader =
            pool.submit(
                () -> {
                  started.countDown();
                  return read(waiting);
                });
        started.await();
        Thread.sleep(round % 4 < 2 ? 5 : 0);
        (closesEngine ? engine : waiting).close();
        Throwable end =
            assertThrows(ExecutionException.class, () -> reader.get(60, TimeUnit.SECONDS))
                .getCause();
        if (end instanceof FlexqException e) {
          assertEquals(FlexqException.CANCELLED, e.code(), e.toString());
        } else {
          // Closed before the call began.
          assertTrue(!closesEngine && end instanceof IllegalStateException, end.toString());
        }
        if (closesEngine) {
          assertEquals(FinishReason.CANCELLED, waiting.stats().finishReason());
          assertFails(FlexqException.INVALID_STATE, waiting::next);
          assertTrue(requests.get(MANY - 1).stats().totalNs() > 0);
          assertTrue(endsCancelled(requests.get(MANY - 1)));
          waiting.close();
        } else {
          assertThrows(IllegalStateException.class, waiting::next);
          assertEquals(FinishReason.NONE, requests.get(0).next().finishReason());
          engine.close();
        }
        context.rewind(0, 0);
        assertThrows(IllegalStateException.class, () -> engine.submit(PROMPT, null));
      } finally {
        requests.forEach(Request::close);
      }
    }
    pool.shutdown();
  }

  @Scenario("engine_errors")
  void engineErrors() throws InterruptedException {
    List<Request> requests = new ArrayList<>();
    try (Context context = context(1)) {
      assertFails(
          FlexqException.UNKNOWN_OPTION,
          () -> context.createEngine(new EngineOptions().set("page_size", "16")));
      assertFails(
          FlexqException.UNSUPPORTED_VALUE,
          () -> context.createEngine(new EngineOptions().set("prefix_reuse", "yes")));
      assertFails(
          FlexqException.UNSUPPORTED_VALUE,
          () -> context.createEngine(new EngineOptions().stepTokens(10_000)));
      assertFails(
          FlexqException.INVALID_ARGUMENT,
          () -> context.createEngine(new EngineOptions().queue(-1)));
      try (Engine engine = context.createEngine(new EngineOptions().queue(1))) {
        assertFails(FlexqException.INVALID_STATE, () -> context.createEngine(null));
        assertFails(FlexqException.INVALID_STATE, () -> context.rewind(0, 0));
        assertFails(
            FlexqException.INVALID_ARGUMENT,
            () -> engine.submit(PROMPT, EncodeFlag.PLAIN, tokens(5).sequence(1)));
        assertFails(
            FlexqException.INVALID_ARGUMENT, () -> engine.submitTokens(new int[0], null));
        assertFails(
            FlexqException.INVALID_ARGUMENT, () -> engine.submitTokens(new int[] {512}, null));
        assertFails(
            FlexqException.CONTEXT_FULL, () -> engine.submitTokens(new int[1000], null));

        FlexqException refused =
            assertFails(
                FlexqException.QUEUE_FULL,
                () -> {
                  while (requests.size() < 1000) {
                    requests.add(engine.submit(PROMPT, tokens(LONG)));
                  }
                });
        assertEquals("QUEUE_FULL", refused.name());
        assertEquals(1, engine.metrics().nRefused());
        requests.forEach(Request::close);
        try (Request next = submitWhenThereIsRoom(engine)) {
          assertEquals(alone(encode(PROMPT), tokens(5)), read(next));
        }
      }
      context.rewind(0, 0);
    }
  }

  /** The engine sees in its next step that requests are closed. */
  private static Request submitWhenThereIsRoom(Engine engine) throws InterruptedException {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
    while (true) {
      try {
        return engine.submit(PROMPT, tokens(5));
      } catch (FlexqException e) {
        assertEquals(FlexqException.QUEUE_FULL, e.code(), e.toString());
        assertTrue(System.nanoTime() < end, "closed requests still wait");
        Thread.sleep(1);
      }
    }
  }

  @Scenario("engine_metrics")
  void engineMetrics() throws InterruptedException {
    for (boolean reuses : new boolean[] {true, false}) {
      EngineOptions options = new EngineOptions().set("prefix_reuse", reuses ? "on" : "off");
      try (Context context = context(2);
          Engine engine = context.createEngine(options)) {
        long nPrompt = 0;
        long nReused = 0;
        for (int i = 0; i < 2; i++) {
          try (Request request = engine.submit(prompt(3), tokens(20))) {
            assertEquals(21, read(request).size());
            RequestStats stats = request.stats();
            assertEquals(FinishReason.LENGTH, stats.finishReason());
            assertEquals(request.promptTokens().length, stats.nPromptTokens());
            assertEquals(20, stats.nGeneratedTokens());
            assertEquals(0, stats.nPreemptions());
            assertTrue(stats.queuedNs() > 0 && stats.timeToFirstTokenNs() > stats.queuedNs());
            assertTrue(stats.totalNs() > stats.timeToFirstTokenNs());
            assertTrue(stats.tokensPerSecond() > 0);
            assertEquals(
                reuses && i == 1, stats.nReusedTokens() > 0, stats.nReusedTokens() + " reused");
            assertTrue(stats.nReusedTokens() < stats.nPromptTokens());
            nPrompt += stats.nPromptTokens();
            nReused += stats.nReusedTokens();
          }
        }
        EngineMetrics metrics = metricsWhenFinished(engine, 2);
        assertEquals(2, metrics.nSubmitted());
        assertEquals(0, metrics.nWaiting() + metrics.nRunning());
        assertEquals(
            0, metrics.nCancelled() + metrics.nDeadline() + metrics.nFailed() + metrics.nRefused());
        assertEquals(0, metrics.nPreemptions());
        assertEquals(2 * 512 / 16, metrics.pagesTotal());
        assertEquals(0, metrics.pagesUsed());
        assertEquals(reuses, metrics.pagesCached() > 0, metrics.pagesCached() + " pages cached");
        assertEquals(nPrompt, metrics.promptTokens());
        assertEquals(nReused, metrics.reusedTokens());
        assertEquals(40, metrics.generatedTokens());
        // Nobody needed the keys and values of the last tokens.
        assertEquals(nPrompt - nReused + 2 * 19, metrics.computedTokens());
        assertTrue(metrics.nSteps() >= 40 && metrics.stepNs() > 0);
      }
    }
  }

  /** The metrics are of the end of a step, the last events from within it. */
  private static EngineMetrics metricsWhenFinished(Engine engine, int n)
      throws InterruptedException {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
    while (true) {
      EngineMetrics metrics = engine.metrics();
      if (metrics.nFinished() == n) {
        return metrics;
      }
      assertTrue(System.nanoTime() < end, metrics.toString());
      Thread.sleep(1);
    }
  }
}
