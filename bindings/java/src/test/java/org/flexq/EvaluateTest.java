package org.flexq;

import static org.flexq.TestData.assertFails;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.io.TempDir;

class EvaluateTest {
  @Scenario("evaluate")
  void evaluate() throws IOException {
    String text = Files.readString(TestData.CHECKPOINT.resolve("greedy.txt"));
    try (Model model = TestData.stories();
        Model reference = Model.load(TestData.STORIES_FP16);
        Questions questions =
            Questions.open("arc", TestData.SOURCE.resolve("tests/data/choice/arc.jsonl"))) {
      List<Double> windows = new ArrayList<>();
      Evaluation.Perplexity perplexity =
          Evaluation.perplexity(
              model,
              null,
              text,
              64,
              0,
              (window, nWindows, nll) -> {
                assertEquals(windows.size(), window);
                return windows.add(nll);
              });
      assertEquals(windows.size(), perplexity.nWindows());
      assertEquals(64, perplexity.windowTokens());
      double mean = windows.stream().mapToDouble(Double::doubleValue).average().orElseThrow();
      assertEquals(mean, perplexity.meanNll(), 1e-9);
      assertEquals(Math.exp(mean), perplexity.perplexity(), 1e-9);
      assertTrue(perplexity.perplexity() < 3, "its own greedy text: " + perplexity);
      assertFails(
          FlexqException.INVALID_ARGUMENT,
          () -> Evaluation.perplexity(model, null, "short", 64, 0, null));
      assertFails(
          FlexqException.CANCELLED,
          () -> Evaluation.perplexity(model, null, text, 64, 0, (w, n, nll) -> false));

      assertEquals(4, questions.count());
      List<QuestionResult> results = new ArrayList<>();
      long[] progress = new long[2];
      Evaluation.Choices choices =
          Evaluation.choices(
              model,
              null,
              questions,
              0,
              0,
              (done, total) -> {
                progress[0] = done;
                progress[1] = total;
                return true;
              },
              results::add);
      assertEquals(4, results.size());
      assertEquals(4, choices.nQuestions());
      assertTrue(progress[1] > 0 && progress[0] == progress[1]);
      long correct = results.stream().filter(r -> r.best() == r.answer()).count();
      assertEquals(correct, choices.nCorrect());
      assertEquals(correct / 4.0, choices.accuracy());
      for (QuestionResult result : results) {
        double best = result.scores().get(result.best());
        assertTrue(best < 0 && result.scores().stream().allMatch(s -> s <= best));
      }
      assertEquals(
          2, Evaluation.choices(model, null, questions, 3, 2, null, null).nQuestions());
      assertFails(
          FlexqException.CANCELLED,
          () -> Evaluation.choices(model, null, questions, 0, 0, null, result -> false));
      assertFails(
          FlexqException.UNSUPPORTED_VALUE,
          () -> Questions.open("trivia", TestData.CHECKPOINT.resolve("config.json")));

      Evaluation.Comparison same =
          Evaluation.comparison(reference, reference, null, text, 64, 0, null);
      assertEquals(0, same.meanKl());
      assertEquals(same.nPositions(), same.nSameTop1());
      Evaluation.Comparison comparison =
          Evaluation.comparison(
              reference, model, new ContextOptions().set("kv_type", "f32"), text, 64, 0, null);
      assertEquals(same.perplexityA(), comparison.perplexityA(), 0.01);
      assertTrue(comparison.meanKl() > 0 && comparison.meanKl() < 0.5, comparison.toString());
      assertEquals(perplexity.nWindows() * 63L, comparison.nPositions());
      assertFails(
          FlexqException.CANCELLED,
          () ->
              Evaluation.comparison(
                  reference, model, null, text, 64, 0, (done, total) -> false));
    }
  }

  @Scenario("quantize")
  void quantize(@TempDir Path folder) throws IOException {
    Path output = folder.resolve("模型.flexq");
    long[] last = new long[2];
    QuantizeOptions options =
        new QuantizeOptions()
            .policy("w6a8")
            .threads(2)
            .set("embedding_bits", "8")
            .progress(
                (done, total) -> {
                  last[0] = done;
                  last[1] = total;
                  return true;
                });
    Quantizer.quantize(TestData.CHECKPOINT, output, options);
    assertTrue(last[1] > 0 && last[0] == last[1]);
    try (Source source = Source.open(output);
        Bundle bundle = Bundle.open(source);
        Model model = Model.load(source, null)) {
      assertEquals("w6a8", model.info().policy());
      String json = bundle.json();
      assertTrue(json.startsWith("{") && json.contains("\"policy\"") && json.contains("w6a8"));
      long[] verified = new long[2];
      bundle.verify(
          2,
          (done, total) -> {
            verified[0] = done;
            verified[1] = total;
            return true;
          });
      assertTrue(verified[1] > 0 && verified[0] == verified[1]);
      assertFails(FlexqException.CANCELLED, () -> bundle.verify(1, (done, total) -> false));
    }

    // Whatever goes wrong, what was there before is untouched.
    byte[] before = Files.readAllBytes(output);
    assertFails(
        FlexqException.CANCELLED,
        () ->
            Quantizer.quantize(
                TestData.CHECKPOINT,
                output,
                new QuantizeOptions().progress((done, total) -> false)));
    RuntimeException mine = new RuntimeException("mine");
    ProgressListener failing =
        (done, total) -> {
          throw mine;
        };
    assertSame(
        mine,
        assertThrows(
            RuntimeException.class,
            () ->
                Quantizer.quantize(
                    TestData.CHECKPOINT, output, new QuantizeOptions().progress(failing))));
    assertEquals(-1, java.util.Arrays.mismatch(before, Files.readAllBytes(output)));
    assertFails(
        FlexqException.NOT_FOUND,
        () -> Quantizer.quantize(folder.resolve("nothing"), output, null));

    // The first pass of a large synthetic model is enough to see it begin.
    Path synthetic = folder.resolve("synthetic.flexq");
    assertFails(
        FlexqException.CANCELLED,
        () ->
            Quantizer.quantizeSynthetic(
                "tinyllama-1.1b",
                synthetic,
                new QuantizeOptions().progress((done, total) -> false)));
    assertFalse(Files.exists(synthetic));
    try (Source source =
        Source.synthetic("llama-2-7b", new QuantizeOptions().policy("w6a6"))) {
      ModelPlan plan = Model.plan(source, new ModelOptions().device("cpu"), null);
      assertTrue(plan.weightBytes() > 4L << 30 && plan.weightBytes() < 7L << 30, plan.toString());
    }

    // "auto" measures on a text and keeps its goal.
    String text = Files.readString(TestData.CHECKPOINT.resolve("greedy.txt")).repeat(16);
    Path auto = folder.resolve("auto.flexq");
    QuantizeOptions measured =
        new QuantizeOptions()
            .policy("auto")
            .calibration(text)
            .set("calibration_windows", "4")
            .a8Fraction(0.3);
    Quantizer.quantize(TestData.CHECKPOINT, auto, measured);
    try (Source source = Source.open(auto);
        Bundle bundle = Bundle.open(source)) {
      assertTrue(bundle.json().contains("\"evidence\""));
    }
  }
}
