package org.flexq;

import org.flexq.internal.FlexqNativeConstants;

/** Importance of a message, most important first. */
public enum LogLevel {
  /** An operation fails. */
  ERROR(FlexqNativeConstants.FLEXQ_LOG_ERROR),
  /** Something to know about. */
  WARNING(FlexqNativeConstants.FLEXQ_LOG_WARNING),
  /** What was done. */
  INFO(FlexqNativeConstants.FLEXQ_LOG_INFO),
  /** Everything else, and levels that this version does not know. */
  DEBUG(FlexqNativeConstants.FLEXQ_LOG_DEBUG);

  final int number;

  LogLevel(int number) {
    this.number = number;
  }

  static LogLevel of(int number) {
    for (LogLevel level : values()) {
      if (level.number == number) {
        return level;
      }
    }
    return DEBUG;
  }
}
