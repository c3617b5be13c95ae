package org.flexq;

import java.util.ArrayList;
import java.util.List;
import org.flexq.internal.Utf8;

/**
 * One step of an answer.
 *
 * @param finishReason NONE: this is a token; else the last event of the answer
 * @param token its id; -1 in the last event, which carries held-back text only
 * @param position of the token in the sequence
 * @param text newly complete text: whole characters, maybe none
 * @param logProb ln p(token) under the untouched logits
 * @param alternatives the most probable tokens at this place, most probable first; as many as
 *     {@link GeneratorOptions#logProbs} asked for
 */
public record TokenEvent(
    FinishReason finishReason,
    int token,
    int position,
    String text,
    float logProb,
    List<Alternative> alternatives) {

  /**
   * A token that could have been.
   *
   * @param token its id
   * @param logProb ln p(token) under the untouched logits
   */
  public record Alternative(int token, float logProb) {}

  /**
   * Whether this is the last event of the answer.
   *
   * @return false for a token
   */
  public boolean isLast() {
    return finishReason != FinishReason.NONE;
  }

  static TokenEvent of(
      int finishReason,
      int token,
      int position,
      byte[] text,
      float logProb,
      int[] alternativeTokens,
      float[] alternativeLogProbs) {
    List<Alternative> alternatives = List.of();
    if (alternativeTokens != null) {
      List<Alternative> list = new ArrayList<>(alternativeTokens.length);
      for (int i = 0; i < alternativeTokens.length; i++) {
        list.add(new Alternative(alternativeTokens[i], alternativeLogProbs[i]));
      }
      alternatives = List.copyOf(list);
    }
    return new TokenEvent(
        FinishReason.of(finishReason),
        token,
        position,
        text.length == 0 ? "" : Utf8.string(text),
        logProb,
        alternatives);
  }
}
