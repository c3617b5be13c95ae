package org.flexq.internal;

import java.lang.ref.Cleaner;

/** The one thread that releases what nobody reaches any more. */
public final class NativeCleaner {
  public static final Cleaner CLEANER = Cleaner.create();

  private NativeCleaner() {}
}
