package org.flexq;

import java.util.Set;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.Utf8;

/**
 * Answers many requests over one context, from any number of threads; made by {@link
 * Context#createEngine}. A native thread of its own runs step after step: one token for every
 * answer under way, and the next pieces of prompts. The context has as many places as sequences;
 * further requests wait, in the order in which they came, each level of {@link
 * GeneratorOptions#priority} counting as one second earlier.
 *
 * <p>A request's tokens are those that a {@link Generator} would draw on an empty sequence,
 * whatever else is under way. A prompt that begins as an earlier one did takes over what was
 * computed for it. A failure that concerns one request ends no other.
 *
 * <pre>{@code
 * try (Engine engine = context.createEngine(null);
 *     Request request = engine.submit(prompt, options)) {
 *   for (TokenEvent event : request) {
 *     System.out.print(event.text());
 *   }
 * }
 * }</pre>
 */
public final class Engine implements AutoCloseable {
  private final NativeHandle handle;

  Engine(long address) {
    handle = new NativeHandle("Engine", address, FlexqNative::flexq_engine_release);
  }

  /**
   * Queues a request, with BOS where the model wants it, and returns.
   *
   * @param prompt at least one token
   * @param options null: the defaults
   * @return the request, to be closed
   * @throws FlexqException as {@link #submit(String, Set, GeneratorOptions)}
   */
  public Request submit(String prompt, GeneratorOptions options) {
    return submit(prompt, EncodeFlag.DEFAULT, options);
  }

  /**
   * Queues a request and returns; the deadline counts from here.
   *
   * @param prompt at least one token
   * @param flags see {@link EncodeFlag}
   * @param options null: the defaults
   * @return the request, to be closed
   * @throws FlexqException QUEUE_FULL (try again later), INVALID_ARGUMENT (a prompt without a
   *     token; a sequence, which the engine chooses), CONTEXT_FULL (a prompt that the context
   *     length or the whole KV cache cannot hold), NOT_FOUND (no tokenizer), DEVICE_LOST
   */
  public Request submit(String prompt, Set<EncodeFlag> flags, GeneratorOptions options) {
    byte[] utf8 = Utf8.bytes(prompt);
    int bits = EncodeFlag.bits(flags);
    return submit(
        options,
        (engine, with, request) ->
            FlexqNative.flexq_engine_submit(engine, with, utf8, bits, request));
  }

  /**
   * Queues a request whose prompt is token ids, and returns.
   *
   * @param tokens at least one
   * @param options null: the defaults
   * @return the request, to be closed
   * @throws FlexqException as {@link #submit(String, Set, GeneratorOptions)}; INVALID_ARGUMENT also
   *     for a token outside the vocabulary
   */
  public Request submitTokens(int[] tokens, GeneratorOptions options) {
    return submit(
        options,
        (engine, with, request) ->
            FlexqNative.flexq_engine_submit_tokens(engine, with, tokens, request));
  }

  /**
   * Queues a conversation that the model is to go on with, and returns. What ends an answer in its
   * format is added to what the options name.
   *
   * @param templateName the format; null: the model's own
   * @param chat at least one message
   * @param options null: the defaults
   * @return the request, to be closed
   * @throws FlexqException as {@link #submit(String, Set, GeneratorOptions)} and {@link
   *     Tokenizer#encodeChat}
   */
  public Request submitChat(String templateName, Chat chat, GeneratorOptions options) {
    byte[] name = Utf8.zeroTerminated(templateName);
    return submit(
        options,
        (engine, with, request) -> {
          try (NativeHandle.Use messages = chat.useAlone()) {
            return FlexqNative.flexq_engine_submit_chat(
                engine, with, name, messages.address, request);
          }
        });
  }

  /**
   * What the engine has done since it was created, and what it is doing.
   *
   * @return as of the end of its last step
   */
  public EngineMetrics metrics() {
    try (NativeHandle.Use engine = handle.use()) {
      return EngineMetrics.of(engine.address);
    }
  }

  /**
   * Cancels every request and waits for the step under way, which is given up between two layers.
   * Requests stay readable; the context is free again. Not from a {@link LogListener}.
   */
  @Override
  public void close() {
    handle.close();
  }

  /** A *_submit function of flexq.h, with the prompt. */
  private interface Submit {
    int submit(long engine, long options, long[] request);
  }

  private Request submit(GeneratorOptions options, Submit function) {
    try (NativeHandle.Use engine = handle.use();
        NativeObject with = GeneratorOptions.toNative(options)) {
      return new Request(
          NativeObject.make(out -> function.submit(engine.address, with.address, out)), handle);
    }
  }
}
