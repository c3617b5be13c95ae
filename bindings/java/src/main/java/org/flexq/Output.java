package org.flexq;

import org.flexq.internal.FlexqNativeConstants;

/** Which of the tokens added to a batch give a row of logits and a hidden state. */
public enum Output {
  /** None. */
  NONE(FlexqNativeConstants.FLEXQ_OUTPUT_NONE),
  /** The last of them. */
  LAST(FlexqNativeConstants.FLEXQ_OUTPUT_LAST),
  /** Each of them. */
  ALL(FlexqNativeConstants.FLEXQ_OUTPUT_ALL);

  final int number;

  Output(int number) {
    this.number = number;
  }
}
