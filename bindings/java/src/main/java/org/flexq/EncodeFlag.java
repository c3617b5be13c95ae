package org.flexq;

import java.util.Set;
import org.flexq.internal.FlexqNativeConstants;

/** How a text becomes tokens. */
public enum EncodeFlag {
  /** Put BOS in front where the model wants one. */
  ADD_BOS(FlexqNativeConstants.FLEXQ_ENCODE_ADD_BOS),
  /** "&lt;s&gt;" becomes the token: for templates, never for user text. */
  PARSE_SPECIAL(FlexqNativeConstants.FLEXQ_ENCODE_PARSE_SPECIAL);

  /** No BOS; "&lt;s&gt;" in the text is text. */
  public static final Set<EncodeFlag> PLAIN = Set.of();

  /** BOS where the model wants one; "&lt;s&gt;" in the text is text. */
  public static final Set<EncodeFlag> DEFAULT = Set.of(ADD_BOS);

  private final int bit;

  EncodeFlag(int bit) {
    this.bit = bit;
  }

  static int bits(Set<EncodeFlag> flags) {
    int bits = FlexqNativeConstants.FLEXQ_ENCODE_PLAIN;
    for (EncodeFlag flag : flags) {
      bits |= flag.bit;
    }
    return bits;
  }
}
