package org.flexq;

import static org.flexq.TestData.PROMPT;
import static org.flexq.TestData.tokens;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

class CloseTest {
  /** Everything that has a native object, and is closed here. */
  private static List<AutoCloseable> closedObjects() throws Exception {
    List<AutoCloseable> objects = new ArrayList<>();
    Model model = TestData.stories();
    Source source = Source.open(TestData.STORIES);
    Context context = model.createContext();
    Generator generator = context.start(PROMPT, null);
    Context served = model.createContext();
    Engine engine = served.createEngine(null);
    Request request = engine.submit(PROMPT, null);
    served.close();
    objects.addAll(
        List.of(
            model,
            source,
            context,
            generator,
            model.tokenizer(),
            Bundle.open(source),
            new Batch(),
            new Chat(),
            new Continuations(),
            Questions.open("arc", TestData.SOURCE.resolve("tests/data/choice/arc.jsonl"))));
    objects.addAll(List.of(engine, request));
    for (AutoCloseable object : objects) {
      object.close();
    }
    return objects;
  }

  @Scenario("use_after_close")
  void useAfterClose() throws Exception {
    int nMethods = 0;
    for (AutoCloseable object : closedObjects()) {
      String name = object.getClass().getSimpleName();
      for (Method method : object.getClass().getDeclaredMethods()) {
        boolean isCall =
            Modifier.isPublic(method.getModifiers())
                && !Modifier.isStatic(method.getModifiers())
                && !method.isSynthetic()
                && !method.getName().equals("close");
        if (isCall) {
          nMethods++;
          String message = assertClosed(object, method);
          assertEquals(name + " is closed", message);
        }
      }
    }
    assertTrue(nMethods > 50, nMethods + " methods");

    // As arguments, too.
    List<AutoCloseable> closed = closedObjects();
    Model model = (Model) closed.get(0);
    Source source = (Source) closed.get(1);
    Tokenizer tokenizer = (Tokenizer) closed.get(4);
    assertThrows(IllegalStateException.class, () -> Model.load(source, null));
    assertThrows(IllegalStateException.class, () -> Model.plan(source, null, null));
    assertThrows(IllegalStateException.class, () -> Tokenizer.open(source));
    assertThrows(IllegalStateException.class, () -> Bundle.open(source));
    assertThrows(IllegalStateException.class, () -> source.requireKey(""));
    assertThrows(
        IllegalStateException.class, () -> Evaluation.perplexity(model, null, "x", 2, 0, null));
    try (Model open = TestData.stories();
        Context context = open.createContext()) {
      GeneratorOptions options = new GeneratorOptions().chatStops(tokenizer, "llama-2");
      assertThrows(IllegalStateException.class, () -> context.createGenerator(options));
      assertThrows(IllegalStateException.class, () -> context.decode((Batch) closed.get(6)));
      assertThrows(
          IllegalStateException.class, () -> context.score((Continuations) closed.get(8), null));
      try (Engine engine = context.createEngine(null)) {
        assertThrows(IllegalStateException.class, () -> engine.submit(PROMPT, options));
        assertThrows(
            IllegalStateException.class,
            () -> engine.submitChat("vicuna", (Chat) closed.get(7), null));
      }
    }
  }

  /** The message of the exception that calling it gives. */
  private static String assertClosed(Object object, Method method) throws Exception {
    Class<?>[] types = method.getParameterTypes();
    Object[] arguments = new Object[types.length];
    Map<Class<?>, Object> values =
        Map.of(
            int.class, 0,
            boolean.class, false,
            String.class, "user",
            byte[].class, new byte[] {1, 2},
            int[].class, new int[] {1, 2},
            Path.class, Path.of("session"),
            Set.class, EncodeFlag.DEFAULT,
            Duration.class, Duration.ZERO,
            Output.class, Output.LAST);
    try (Chat chat = new Chat();
        Batch batch = new Batch();
        Continuations continuations = new Continuations()) {
      Map<Class<?>, Object> objects =
          Map.of(Chat.class, chat, Batch.class, batch, Continuations.class, continuations);
      for (int i = 0; i < types.length; i++) {
        arguments[i] = values.getOrDefault(types[i], objects.get(types[i]));
      }
      InvocationTargetException e =
          assertThrows(
              InvocationTargetException.class,
              () -> method.invoke(object, arguments),
              method.toString());
      assertEquals(IllegalStateException.class, e.getCause().getClass(), method.toString());
      return e.getCause().getMessage();
    }
  }

  @Scenario("close_twice")
  void closeTwice() throws Exception {
    for (AutoCloseable object : closedObjects()) {
      object.close();
      object.close();
    }
    // From many threads at once, of an object in use.
    try (Model model = TestData.stories()) {
      ExecutorService pool = Executors.newFixedThreadPool(8);
      for (int round = 0; round < 50; round++) {
        Context context = model.createContext(new ContextOptions().contextTokens(64));
        CountDownLatch go = new CountDownLatch(1);
        List<Future<?>> closing = new ArrayList<>();
        for (int i = 0; i < 8; i++) {
          closing.add(
              pool.submit(
                  () -> {
                    go.await();
                    context.close();
                    return null;
                  }));
        }
        go.countDown();
        for (Future<?> future : closing) {
          future.get(60, TimeUnit.SECONDS);
        }
      }
      pool.shutdown();
    }
  }

  @Scenario("close_while_generating")
  void closeWhileGenerating() throws Exception {
    String expected;
    try (Model model = TestData.stories();
        Context context = model.createContext()) {
      expected = context.generate(PROMPT, tokens(60));
    }
    ExecutorService pool = Executors.newSingleThreadExecutor();
    for (int round = 0; round < 20; round++) {
      // Model and context are only given back: the answer comes as it would.
      Model model = TestData.stories();
      Context context = model.createContext();
      Generator generator = context.start(PROMPT, tokens(60));
      CountDownLatch started = new CountDownLatch(1);
      Future<String> answer =
          pool.submit(
              () -> {
                StringBuilder text = new StringBuilder();
                generator.run(
                    event -> {
                      started.countDown();
                      text.append(event.text());
                      return true;
                    });
                return text.toString();
              });
      if (round % 2 == 0) {
        started.await();
      }
      model.close();
      context.close();
      if (round % 4 < 2) {
        assertEquals(expected, answer.get(60, TimeUnit.SECONDS));
        generator.close();
        continue;
      }
      // The generator, too: the call that runs ends, cancelled.
      generator.close();
      try {
        assertEquals(expected, answer.get(60, TimeUnit.SECONDS), "ended before the close");
      } catch (ExecutionException e) {
        boolean cancelled =
            e.getCause() instanceof FlexqException f && f.code() == FlexqException.CANCELLED;
        // Closed before the call began, or before its statistics were read.
        assertTrue(cancelled || e.getCause() instanceof IllegalStateException, e.toString());
      }
      assertThrows(IllegalStateException.class, generator::text);
    }
    pool.shutdown();
  }

  @Test
  void callsRaceWithClose() throws Exception {
    ExecutorService pool = Executors.newFixedThreadPool(4);
    try (Model model = TestData.stories()) {
      for (int round = 0; round < 100; round++) {
        Tokenizer tokenizer = model.tokenizer();
        CountDownLatch running = new CountDownLatch(4);
        List<Future<String>> ends = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
          ends.add(
              pool.submit(
                  () -> {
                    try {
                      for (; ; running.countDown()) {
                        assertEquals("cat 😀", tokenizer.decode(tokenizer.encode("cat 😀")));
                      }
                    } catch (IllegalStateException e) {
                      return e.getMessage();
                    } finally {
                      running.countDown();
                    }
                  }));
        }
        running.await();
        tokenizer.close();
        for (Future<String> end : ends) {
          assertEquals("Tokenizer is closed", end.get(60, TimeUnit.SECONDS));
        }
      }
    }
    pool.shutdown();
  }

  @Test
  void whatBelongsToOneThreadIsNotUsedTwiceAtOnce() {
    try (Model model = TestData.stories();
        Context context = model.createContext();
        Continuations continuations = new Continuations().add(new int[] {1}, new int[] {2, 3})) {
      int[] nRefused = new int[1];
      ProgressListener listener =
          (done, total) -> {
            IllegalStateException e =
                assertThrows(
                    IllegalStateException.class,
                    () -> continuations.add(new int[] {1}, new int[] {2}));
            assertEquals("Continuations is in use by another call", e.getMessage());
            nRefused[0]++;
            return true;
          };
      assertEquals(1, context.score(continuations, listener).length);
      assertTrue(nRefused[0] > 0);
      assertEquals(2, context.score(continuations.add(new int[] {1}, new int[] {2}), null).length);
    }
  }

  static long residentBytes() throws Exception {
    for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
      if (line.startsWith("VmRSS:")) {
        return 1024 * Long.parseLong(line.replaceAll("\\D", ""));
      }
    }
    throw new AssertionError("no VmRSS");
  }
}
