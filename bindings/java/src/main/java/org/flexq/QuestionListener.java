package org.flexq;

/** Receives the questions of a multiple-choice measurement. */
@FunctionalInterface
public interface QuestionListener {
  /**
   * Called once for every question, in their order, on the thread that measures.
   *
   * @param result of the question
   * @return false cancels: the measurement throws CANCELLED
   */
  boolean onQuestion(QuestionResult result);
}
