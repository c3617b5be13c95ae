package org.flexq;

import static org.flexq.TestData.PROMPT;
import static org.flexq.TestData.assertFails;
import static org.flexq.TestData.tokens;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.io.TempDir;

class ContextTest {
  private static final int[] NOTHING = {};
  private static Model model;
  private static Tokenizer tokenizer;

  @BeforeAll
  static void open() {
    model = TestData.stories();
    tokenizer = model.tokenizer();
  }

  @AfterAll
  static void close() {
    tokenizer.close();
    model.close();
  }

  @Scenario("many_sequences")
  void manySequences() {
    final int n = 24;
    final int nTokens = 20;
    SamplingOptions sampling = new SamplingOptions().temperature(0.9f).seed(3);
    List<String> prompts = new ArrayList<>();
    for (int s = 0; s < n; s++) {
      prompts.add(PROMPT + " " + "😀".repeat(s % 5) + " a cat".repeat(s % 3));
    }
    try (Context context = model.createContext(new ContextOptions().sequences(n));
        Batch batch = new Batch()) {
      int[] length = new int[n];
      for (int s = 0; s < n; s++) {
        int[] prompt = tokenizer.encode(prompts.get(s));
        length[s] = prompt.length;
        batch.add(s, Output.LAST, prompt);
      }
      int[][] answers = new int[n][nTokens];
      for (int i = 0; i < nTokens; i++) {
        context.decode(batch);
        assertEquals(n, context.outputCount());
        batch.clear();
        for (int s = 0; s < n; s++) {
          int token = sampling.sample(context.logits(s), NOTHING, length[s] + i).token();
          answers[s][i] = token;
          batch.add(s, Output.LAST, token);
        }
      }
      ContextCounters counters = context.counters();
      assertEquals(n, counters.nSequencesUsed());
      assertTrue(counters.pagesUsed() >= n && counters.pagesUsed() <= counters.pagesTotal());
      assertTrue(counters.tokensComputed() > (long) n * nTokens);
      assertTrue(counters.computeNs() > 0 && counters.forwardCalls() >= nTokens);
      for (int s = 0; s < n; s++) {
        int[] alone =
            TestData.answer(model, prompts.get(s), tokens(nTokens).sampling(sampling));
        assertArrayEquals(alone, answers[s], "sequence " + s);
      }
    }
  }

  @Scenario("logits")
  void logits() {
    int[] prompt = tokenizer.encode(PROMPT);
    SamplingOptions sampling =
        new SamplingOptions()
            .temperature(0.8f)
            .topK(30)
            .topP(0.95f)
            .minP(0.01f)
            .seed(-1)
            .penalties(1.1f, 0.1f, 0.1f, 64)
            .logitBias(prompt[1], Float.NEGATIVE_INFINITY);
    int[] expected = TestData.answer(model, PROMPT, tokens(16).sampling(sampling));
    try (Context context = model.createContext(new ContextOptions().outputs(prompt.length));
        Batch batch = new Batch().add(0, Output.ALL, prompt)) {
      context.decode(batch);
      assertEquals(prompt.length, context.outputCount());
      float[] embedding = context.embedding(prompt.length - 1);
      assertEquals(64, embedding.length);
      assertTrue(embedding[0] != 0 && Float.isFinite(embedding[0]));
      assertFails(FlexqException.INVALID_ARGUMENT, () -> context.logits(prompt.length));

      int[] history = prompt;
      float[] logits = context.logits(prompt.length - 1);
      assertEquals(512, logits.length);
      for (int token : expected) {
        SamplingOptions.Sample sample = sampling.sample(logits, history, history.length);
        assertEquals(token, sample.token());
        assertTrue(sample.logProb() < 0);
        history = Arrays.copyOf(history, history.length + 1);
        history[history.length - 1] = token;
        context.decode(batch.clear().add(0, Output.LAST, token));
        logits = context.logits(0);
      }
      float[] broken = logits.clone();
      broken[7] = Float.NaN;
      assertFails(FlexqException.NON_FINITE, () -> sampling.sample(broken, NOTHING, 0));
      context.decode(batch.clear().add(0, Output.NONE, 1));
      assertEquals(0, context.outputCount());
    }
  }

  @Scenario("fork_and_rewind")
  void forkAndRewind() {
    int[] prompt = tokenizer.encode(PROMPT);
    int[] body = Arrays.copyOf(prompt, prompt.length - 1);
    int last = prompt[prompt.length - 1];
    try (Context context = model.createContext(new ContextOptions().sequences(2));
        Batch batch = new Batch().add(0, Output.NONE, body)) {
      context.decode(batch);
      context.fork(0, 1);
      assertEquals(body.length, context.sequenceLength(1));
      int[][] answers = new int[2][];
      for (int s = 0; s < 2; s++) {
        try (Generator generator = context.createGenerator(tokens(20).sequence(s))) {
          generator.start(last);
          generator.run(null);
          answers[s] = generator.tokens();
        }
      }
      assertArrayEquals(answers[0], answers[1]);
      assertArrayEquals(TestData.answer(model, PROMPT, tokens(20)), answers[0]);
      assertTrue(context.counters().pagesCopied() > 0);
      context.rewind(1, body.length);
      assertEquals(body.length, context.sequenceLength(1));
      assertEquals(-1, context.sequenceLength(2));
      assertFails(FlexqException.INVALID_ARGUMENT, () -> context.rewind(0, 1000));
      assertFails(FlexqException.INVALID_ARGUMENT, () -> context.fork(0, 2));
      context.rewind(0, 0);
      context.rewind(1, 0);
      assertEquals(0, context.counters().pagesUsed());
    }
  }

  @Scenario("save_and_restore")
  void saveAndRestore(@TempDir Path folder) {
    Path file = folder.resolve("s\u00e9ance.session");
    byte[] note = {1, 0, -1};
    int[] answer = TestData.answer(model, PROMPT, tokens(40));
    byte[] session;
    try (Context context = model.createContext(new ContextOptions().sequences(2))) {
      try (Generator generator = context.start(PROMPT, tokens(15))) {
        generator.run(null);
      }
      context.setSequenceNote(0, note);
      context.saveSequence(0, file);
      session = context.saveSequence(0);
      assertFails(FlexqException.INVALID_STATE, () -> context.saveSequence(1));
      assertFails(FlexqException.INVALID_STATE, () -> context.restoreSequence(0, session));
      assertFails(FlexqException.INVALID_ARGUMENT, () -> context.sequenceTokens(2));
      assertFails(FlexqException.NOT_FOUND, () -> context.saveSequence(0, folder.resolve("a/b")));
    }
    try (Context context = model.createContext(new ContextOptions().sequences(2))) {
      assertEquals(0, context.sequenceTokens(0).length);
      assertEquals(0, context.sequenceNote(0).length);
      context.restoreSequence(0, file);
      context.restoreSequence(1, session);
      assertArrayEquals(context.sequenceTokens(0), context.sequenceTokens(1));
      assertArrayEquals(session, context.saveSequence(1));
      for (int s = 0; s < 2; s++) {
        assertArrayEquals(note, context.sequenceNote(s));
        try (Generator generator = context.createGenerator(tokens(25).sequence(s))) {
          generator.start(answer[14]);
          generator.run(null);
          assertArrayEquals(Arrays.copyOfRange(answer, 15, 40), generator.tokens());
        }
      }
      context.rewind(0, 0);
      session[session.length - 1] ^= 1;
      assertFails(FlexqException.CORRUPT, () -> context.restoreSequence(0, session));
      assertFails(
          FlexqException.NOT_FOUND, () -> context.restoreSequence(0, folder.resolve("nothing")));
      assertEquals(0, context.sequenceLength(0));
      assertThrows(NullPointerException.class, () -> context.restoreSequence(0, (byte[]) null));
      assertThrows(NullPointerException.class, () -> context.setSequenceNote(0, null));
    }
  }

  @Scenario("score")
  void score() {
    int[] text = tokenizer.encode("Once upon a time, there was a little girl named Lily.");
    long[] progress = new long[2];
    ProgressListener listener =
        (done, total) -> {
          progress[0] = done;
          progress[1] = total;
          return true;
        };
    try (Context context = model.createContext(new ContextOptions().sequences(4));
        Continuations continuations = new Continuations()) {
      float[] logProbs = context.score(text, listener);
      assertEquals(text.length - 1, logProbs.length);
      assertTrue(progress[1] > 0 && progress[0] == progress[1]);
      for (int cut : new int[] {1, 5, text.length - 1}) {
        continuations.add(
            Arrays.copyOf(text, cut), Arrays.copyOfRange(text, cut, text.length));
      }
      assertEquals(3, continuations.size());
      double[] scores = context.score(continuations, null);
      int i = 0;
      for (int cut : new int[] {1, 5, text.length - 1}) {
        double sum = 0;
        for (int t = cut - 1; t < logProbs.length; t++) {
          sum += logProbs[t];
        }
        assertEquals(sum, scores[i++], 1e-3);
      }
      continuations.clear().add(new int[] {1}, new int[] {1 << 20});
      assertFails(
          FlexqException.INVALID_ARGUMENT, () -> context.score(continuations, null));
      assertFails(FlexqException.CANCELLED, () -> context.score(text, (done, total) -> false));
      RuntimeException mine = new RuntimeException();
      RuntimeException thrown =
          assertThrows(
              RuntimeException.class,
              () ->
                  context.score(
                      text,
                      (done, total) -> {
                        throw mine;
                      }));
      assertEquals(mine, thrown);
      assertEquals(0, context.sequenceLength(0));
    }
  }

  @Scenario("threads")
  void threads() throws Exception {
    final int n = 8;
    List<int[]> serial = new ArrayList<>();
    for (int i = 0; i < n; i++) {
      serial.add(TestData.answer(model, PROMPT, sampled(i)));
    }
    ExecutorService pool = Executors.newFixedThreadPool(n);
    List<Future<int[]>> answers = new ArrayList<>();
    for (int i = 0; i < n; i++) {
      GeneratorOptions options = sampled(i);
      answers.add(
          pool.submit(
              () -> {
                int[] tokens = null;
                for (int round = 0; round < 3; round++) {
                  tokens = TestData.answer(model, PROMPT, options);
                }
                return tokens;
              }));
    }
    for (int i = 0; i < n; i++) {
      assertArrayEquals(serial.get(i), answers.get(i).get(120, TimeUnit.SECONDS));
    }
    pool.shutdown();
  }

  private static GeneratorOptions sampled(int seed) {
    return tokens(60).sampling(new SamplingOptions().temperature(1).seed(seed));
  }
}
