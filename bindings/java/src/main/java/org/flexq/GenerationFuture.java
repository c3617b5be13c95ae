package org.flexq;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.function.Supplier;

/** A generation on another thread, which ends when the future is cancelled. */
final class GenerationFuture<T> extends CompletableFuture<T> {
  /** A generation blocks for long: not a task for a shared pool. */
  static final Executor OWN_THREAD =
      task -> {
        Thread thread = new Thread(task, "flexq-generation");
        thread.setDaemon(true);
        thread.start();
      };

  private final Generator generator;

  GenerationFuture(Generator generator, Supplier<T> generation, Executor executor) {
    this.generator = generator;
    executor.execute(
        () -> {
          try {
            complete(generation.get());
          } catch (Throwable t) {
            completeExceptionally(t);
          }
        });
  }

  @Override
  public boolean cancel(boolean mayInterruptIfRunning) {
    boolean cancelled = super.cancel(mayInterruptIfRunning);
    if (cancelled) {
      generator.cancelIfOpen();
    }
    return cancelled;
  }
}
