package org.flexq;

import static org.flexq.TestData.PROMPT;
import static org.flexq.TestData.tokens;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import org.junit.jupiter.api.Tag;

/** What is measured: each in a JVM of its own, without -Xcheck:jni. */
class MeasureTest {
  /** In a JVM with a heap of a fixed size that compiles little, so that native memory is seen. */
  @Tag("measure_memory")
  @Scenario("open_close_flat")
  void openCloseFlat() throws Exception {
    final int nCycles = 10_000;
    final long mostGrowth = 5 << 20;
    // Until the JVM has compiled what it will compile.
    for (int i = 0; i < nCycles / 4; i++) {
      cycle();
    }
    System.gc();
    long before = CloseTest.residentBytes();
    for (int i = 0; i < nCycles; i++) {
      cycle();
    }
    System.gc();
    long grown = CloseTest.residentBytes() - before;
    System.out.printf(
        "open_close_flat: %d cycles, resident memory %+d KiB (%d MiB before)%n",
        nCycles, grown >> 10, before >> 20);
    assertTrue(grown < mostGrowth, "grown by " + grown + " bytes");
  }

  private static void cycle() {
    ModelOptions options =
        new ModelOptions().threads(1).device("cpu").progress((done, total) -> true);
    try (Model model = Model.load(TestData.STORIES, options);
        Tokenizer tokenizer = model.tokenizer();
        Context context = model.createContext(new ContextOptions().contextTokens(32));
        Generator generator = context.createGenerator(tokens(1))) {
      generator.start(tokenizer.encode("😀"));
      generator.run(event -> true);
      assertEquals(1, generator.tokens().length);
    }
  }

  @Tag("measure_time")
  @Scenario("callback_overhead")
  void callbackOverhead() {
    final int nRuns = 15;
    final int nTokens = 400;
    long[] listening = new long[nRuns];
    long[] alone = new long[nRuns];
    int[] nBytes = new int[1];
    try (Model model = TestData.stories();
        Context context = model.createContext()) {
      for (int i = 0; i < nRuns; i++) {
        alone[i] = outsideOfComputing(context, nTokens, null);
        listening[i] =
            outsideOfComputing(
                context,
                nTokens,
                event -> {
                  nBytes[0] += event.text().length();
                  return true;
                });
      }
    }
    Arrays.sort(alone);
    Arrays.sort(listening);
    long without = alone[nRuns / 2] / nTokens;
    long with = listening[nRuns / 2] / nTokens;
    System.out.printf(
        "callback_overhead: %d ns a token outside of computing, %d without a callback (median of"
            + " %d runs of %d tokens)%n",
        with, without, nRuns, nTokens);
    assertTrue(nBytes[0] > nTokens);
    assertTrue(with < 5_000, with + " ns a token");
  }

  /** Wall time of an answer less what the library computed in it: more than the callbacks. */
  private static long outsideOfComputing(Context context, int nTokens, TokenListener listener) {
    context.rewind(0, 0);
    try (Generator generator = context.start(PROMPT, tokens(nTokens))) {
      long begin = System.nanoTime();
      generator.run(listener);
      long wall = System.nanoTime() - begin;
      GeneratorStats stats = generator.stats();
      assertEquals(nTokens, stats.nGeneratedTokens());
      return wall - stats.prefillNs() - stats.decodeNs();
    }
  }
}
