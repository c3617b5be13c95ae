package org.flexq;

import java.util.Arrays;
import java.util.List;

/**
 * What a model answered to one question.
 *
 * @param question its index
 * @param nQuestions of all
 * @param answer the right choice
 * @param best the choice of the highest score, the first among equals
 * @param bestNorm the choice of the highest score per character of its text
 * @param scores ln p of each choice
 */
public record QuestionResult(
    int question, int nQuestions, int answer, int best, int bestNorm, List<Double> scores) {

  static QuestionResult of(
      int question, int nQuestions, int answer, int best, int bestNorm, double[] scores) {
    List<Double> list = Arrays.stream(scores).boxed().toList();
    return new QuestionResult(question, nQuestions, answer, best, bestNorm, list);
  }
}
