package org.flexq;

import org.flexq.internal.Callback;
import org.flexq.internal.ChoiceStruct;
import org.flexq.internal.ComparisonStruct;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.PerplexityStruct;
import org.flexq.internal.Utf8;

/**
 * How good a model is. Each measurement makes a context of its own, so models may be used by others
 * at the same time. Thread-safe. Of context options the KV cache's type and the chunk size count;
 * lengths and sequences follow from the measurement.
 */
public final class Evaluation {
  private Evaluation() {}

  /**
   * Perplexity of a text.
   *
   * @param nWindows windows measured
   * @param windowTokens tokens in each
   * @param nTokens in the whole text, BOS included
   * @param meanNll over the windowTokens - 1 targets of every window, nats
   * @param perplexity exp(meanNll)
   */
  public record Perplexity(
      int nWindows, int windowTokens, long nTokens, double meanNll, double perplexity) {}

  /**
   * Accuracy on multiple-choice questions.
   *
   * @param nQuestions measured
   * @param nCorrect the right choice has the highest score
   * @param nCorrectNorm it has the highest score per character of its text
   * @param accuracy nCorrect / nQuestions
   * @param accuracyNorm nCorrectNorm / nQuestions
   */
  public record Choices(
      int nQuestions, int nCorrect, int nCorrectNorm, double accuracy, double accuracyNorm) {}

  /**
   * What differs between model A, the reference, and model B on a text.
   *
   * @param nWindows windows measured
   * @param windowTokens tokens in each
   * @param nTokens in the whole text, BOS included
   * @param nPositions compared: windowTokens - 1 in every window
   * @param nSameTop1 positions where both models find the same token most probable
   * @param nLost of the others: where A names the text's next token and B does not
   * @param nGained of the others: where B names it and A does not
   * @param meanNllA nats per position
   * @param meanNllB nats per position
   * @param perplexityA exp(meanNllA)
   * @param perplexityB exp(meanNllB)
   * @param meanKl mean over positions of KL(A || B), nats
   */
  public record Comparison(
      int nWindows,
      int windowTokens,
      long nTokens,
      long nPositions,
      long nSameTop1,
      long nLost,
      long nGained,
      double meanNllA,
      double meanNllB,
      double perplexityA,
      double perplexityB,
      double meanKl) {}

  /**
   * Perplexity of a text: tokenised whole with one BOS, cut into consecutive windows, tail dropped,
   * each window from an empty cache.
   *
   * @param model with a tokenizer
   * @param contextOptions null: the defaults
   * @param text at least one window
   * @param windowTokens 2 .. the model's context
   * @param maxWindows 0: all
   * @param listener hears of every window; may be null
   * @return the measurement
   * @throws FlexqException INVALID_ARGUMENT (a text shorter than one window), NOT_FOUND (no
   *     tokenizer), CANCELLED, NON_FINITE, OUT_OF_MEMORY
   */
  public static Perplexity perplexity(
      Model model,
      ContextOptions contextOptions,
      String text,
      int windowTokens,
      int maxWindows,
      WindowListener listener) {
    byte[] utf8 = Utf8.bytes(text);
    Callback callback = Callbacks.window(listener);
    try (NativeHandle.Use on = model.use();
        NativeObject with = ContextOptions.toNative(contextOptions);
        PerplexityStruct result = new PerplexityStruct()) {
      Callbacks.run(
          callback,
          window ->
              FlexqNative.flexq_evaluate_perplexity(
                  on.address,
                  with.address,
                  utf8,
                  windowTokens,
                  maxWindows,
                  window.isSet(),
                  window.userData(),
                  result));
      return new Perplexity(
          result.getN_windows(),
          result.getWindow_tokens(),
          result.getN_tokens(),
          result.getMean_nll(),
          result.getPerplexity());
    }
  }

  /**
   * Accuracy on multiple-choice questions, scored as in the lm-evaluation-harness.
   *
   * @param model with a tokenizer
   * @param contextOptions null: the defaults
   * @param questions of one task
   * @param batchSize continuations computed side by side (0: 64); no result depends on it
   * @param maxQuestions 0: all
   * @param progress counts tokens; may be null
   * @param listener hears of every question; may be null
   * @return the measurement
   * @throws FlexqException INVALID_ARGUMENT, NOT_FOUND (no tokenizer), CANCELLED, NON_FINITE,
   *     OUT_OF_MEMORY
   */
  public static Choices choices(
      Model model,
      ContextOptions contextOptions,
      Questions questions,
      int batchSize,
      int maxQuestions,
      ProgressListener progress,
      QuestionListener listener) {
    Callback callback = Callbacks.choices(progress, listener);
    try (NativeHandle.Use on = model.use();
        NativeHandle.Use asked = questions.use();
        NativeObject with = ContextOptions.toNative(contextOptions);
        ChoiceStruct result = new ChoiceStruct()) {
      Callbacks.run(
          callback,
          both ->
              FlexqNative.flexq_evaluate_choices(
                  on.address,
                  with.address,
                  asked.address,
                  batchSize,
                  maxQuestions,
                  progress != null,
                  listener != null,
                  both.userData(),
                  result));
      return new Choices(
          result.getN_questions(),
          result.getN_correct(),
          result.getN_correct_norm(),
          result.getAccuracy(),
          result.getAccuracy_norm());
    }
  }

  /**
   * What differs between two models on a text, cut into windows as for {@link #perplexity}. The
   * models may be on different devices.
   *
   * @param modelA the reference
   * @param modelB quantized, say
   * @param contextOptions null: the defaults
   * @param text at least one window
   * @param windowTokens 2 .. the models' context
   * @param maxWindows 0: all
   * @param listener counts positions; may be null
   * @return the measurement
   * @throws FlexqException INVALID_ARGUMENT (a text shorter than one window; models whose
   *     vocabularies differ, or which encode the text differently), NOT_FOUND (no tokenizer),
   *     CANCELLED, NON_FINITE, OUT_OF_MEMORY
   */
  public static Comparison comparison(
      Model modelA,
      Model modelB,
      ContextOptions contextOptions,
      String text,
      int windowTokens,
      int maxWindows,
      ProgressListener listener) {
    byte[] utf8 = Utf8.bytes(text);
    Callback callback = Callbacks.progress(listener);
    try (NativeHandle.Use a = modelA.use();
        NativeHandle.Use b = modelB.use();
        NativeObject with = ContextOptions.toNative(contextOptions);
        ComparisonStruct result = new ComparisonStruct()) {
      Callbacks.run(
          callback,
          progress ->
              FlexqNative.flexq_evaluate_comparison(
                  a.address,
                  b.address,
                  with.address,
                  utf8,
                  windowTokens,
                  maxWindows,
                  progress.isSet(),
                  progress.userData(),
                  result));
      return new Comparison(
          result.getN_windows(),
          result.getWindow_tokens(),
          result.getN_tokens(),
          result.getN_positions(),
          result.getN_same_top1(),
          result.getN_lost(),
          result.getN_gained(),
          result.getMean_nll_a(),
          result.getMean_nll_b(),
          result.getPerplexity_a(),
          result.getPerplexity_b(),
          result.getMean_kl());
    }
  }
}
