package org.flexq;

import java.nio.file.Path;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import org.flexq.internal.Callback;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.PlanStruct;
import org.flexq.internal.Utf8;

/**
 * KV cache and workspace for one or many sequences on a model; made by {@link Model#createContext}.
 * Used by one thread at a time: while a call is inside, its callbacks included, a call from another
 * thread, be it only to read, throws INVALID_STATE (or gives 0 or -1 where it says so) and changes
 * nothing.
 */
public final class Context implements AutoCloseable {
  private final NativeHandle handle;
  private final ModelInfo model;

  Context(long address, ModelInfo model) {
    this.handle = new NativeHandle("Context", address, FlexqNative::flexq_context_release);
    this.model = model;
  }

  /**
   * The plan that the context was created by.
   *
   * @return its memory
   */
  public ModelPlan plan() {
    try (NativeHandle.Use context = handle.use();
        PlanStruct plan = new PlanStruct()) {
      FlexqNative.flexq_context_get_plan(context.address, plan);
      return ModelPlan.of(plan);
    }
  }

  /**
   * What the context holds and has done.
   *
   * @return as of now
   */
  public ContextCounters counters() {
    try (NativeHandle.Use context = handle.use()) {
      return ContextCounters.of(context.address);
    }
  }

  /**
   * A generator of one answer, not started yet.
   *
   * @param options null: the defaults
   * @return the generator, to be closed
   * @throws FlexqException INVALID_ARGUMENT, OUT_OF_MEMORY
   */
  public Generator createGenerator(GeneratorOptions options) {
    try (NativeHandle.Use context = handle.use();
        NativeObject with = GeneratorOptions.toNative(options)) {
      return new Generator(
          NativeObject.make(
              out -> FlexqNative.flexq_generator_create(context.address, with.address, out)));
    }
  }

  /**
   * An engine that answers many requests at once, on as many sequences as the context has. It has
   * the context to itself until it is closed: other calls on the context throw INVALID_STATE.
   *
   * @param options null: the defaults
   * @return the engine, to be closed
   * @throws FlexqException INVALID_STATE (a sequence that is not empty, a context in use),
   *     UNSUPPORTED_VALUE (more step tokens than the context's chunk)
   */
  public Engine createEngine(EngineOptions options) {
    try (NativeHandle.Use context = handle.use();
        NativeObject with = EngineOptions.toNative(options)) {
      return new Engine(
          NativeObject.make(
              out -> FlexqNative.flexq_engine_create(context.address, with.address, out)));
    }
  }

  /**
   * A generator that is started on a prompt: an iterator over its answer.
   *
   * <pre>{@code
   * try (Generator answer = context.start(prompt, options)) {
   *   for (TokenEvent event : answer) {
   *     System.out.print(event.text());
   *   }
   * }
   * }</pre>
   *
   * @param prompt encoded with {@link EncodeFlag#DEFAULT}
   * @param options null: the defaults
   * @return the generator, to be closed
   * @throws FlexqException as {@link Generator#start(String)}
   */
  public Generator start(String prompt, GeneratorOptions options) {
    Generator generator = createGenerator(options);
    try {
      generator.start(prompt);
      return generator;
    } catch (Throwable t) {
      generator.close();
      throw t;
    }
  }

  /**
   * Prompt in, text out.
   *
   * @param prompt encoded with {@link EncodeFlag#DEFAULT}
   * @param options null: the defaults
   * @return the answer
   * @throws FlexqException as {@link Generator#start(String)} and {@link Generator#run}
   */
  public String generate(String prompt, GeneratorOptions options) {
    return generate(prompt, options, null);
  }

  /**
   * Prompt in, text out, token by token on the way.
   *
   * @param prompt encoded with {@link EncodeFlag#DEFAULT}
   * @param options null: the defaults
   * @param listener hears of every token; may be null
   * @return the answer, up to where the listener stopped it
   * @throws FlexqException as {@link Generator#start(String)} and {@link Generator#run}
   */
  public String generate(String prompt, GeneratorOptions options, TokenListener listener) {
    try (Generator generator = start(prompt, options)) {
      generator.run(listener);
      return generator.text();
    }
  }

  /**
   * The same on a thread of its own; see {@link Generator#runAsync(TokenListener)} for cancelling.
   *
   * @param prompt encoded with {@link EncodeFlag#DEFAULT}
   * @param options null: the defaults
   * @param listener hears of every token; may be null
   * @return the answer; completes exceptionally with what generate would throw
   * @throws FlexqException as {@link Generator#start(String)}
   */
  public CompletableFuture<String> generateAsync(
      String prompt, GeneratorOptions options, TokenListener listener) {
    Generator generator = start(prompt, options);
    return new GenerationFuture<>(
        generator,
        () -> {
          try (generator) {
            generator.run(listener);
            return generator.text();
          }
        },
        GenerationFuture.OWN_THREAD);
  }

  /**
   * Computes a batch: writes keys and values of its tokens into the cache and the wanted rows of
   * logits and final hidden states. On any error, a cancel included, every sequence is as it was
   * before. Results do not depend on what else is in the batch.
   *
   * @param batch what to compute
   * @throws FlexqException INVALID_ARGUMENT (token or sequence out of range, too many output rows),
   *     CONTEXT_FULL, CANCELLED, NON_FINITE (NaN or infinity in a wanted row)
   */
  public void decode(Batch batch) {
    try (NativeHandle.Use context = handle.use();
        NativeHandle.Use tokens = batch.useAlone()) {
      FlexqNative.flexq_context_decode(context.address, tokens.address);
    }
  }

  /**
   * Rows that the last successful decode gave.
   *
   * @return 0 also while another thread is inside the context
   */
  public int outputCount() {
    try (NativeHandle.Use context = handle.use()) {
      return FlexqNative.flexq_context_output_count(context.address);
    }
  }

  /**
   * Logits of an output row.
   *
   * @param row of the last decode
   * @return (nVocab), a copy
   * @throws FlexqException INVALID_ARGUMENT
   */
  public float[] logits(int row) {
    float[] logits = new float[model.nVocab()];
    try (NativeHandle.Use context = handle.use()) {
      FlexqNative.flexq_context_logits(context.address, row, logits);
      return logits;
    }
  }

  /**
   * Final hidden state after the last norm: the model's embedding of the text so far.
   *
   * @param row of the last decode
   * @return (nEmbd), a copy
   * @throws FlexqException INVALID_ARGUMENT
   */
  public float[] embedding(int row) {
    float[] embedding = new float[model.nEmbd()];
    try (NativeHandle.Use context = handle.use()) {
      FlexqNative.flexq_context_embedding(context.address, row, embedding);
      return embedding;
    }
  }

  /**
   * Tokens in the cache for a sequence.
   *
   * @param sequence 0 .. nSequences - 1
   * @return -1 for a sequence that does not exist, and while another thread is inside the context
   */
  public int sequenceLength(int sequence) {
    try (NativeHandle.Use context = handle.use()) {
      return FlexqNative.flexq_context_sequence_length(context.address, sequence);
    }
  }

  /**
   * Keeps the first tokens of a sequence and forgets the rest.
   *
   * @param sequence 0 .. nSequences - 1
   * @param nTokens to keep; 0 empties the sequence
   * @throws FlexqException INVALID_ARGUMENT
   */
  public void rewind(int sequence, int nTokens) {
    try (NativeHandle.Use context = handle.use()) {
      FlexqNative.flexq_context_rewind(context.address, sequence, nTokens);
    }
  }

  /**
   * Makes a sequence a copy of another, replacing what it held. Pages are shared until one of the
   * two writes.
   *
   * @param from what is copied
   * @param to what becomes the copy
   * @throws FlexqException INVALID_ARGUMENT
   */
  public void fork(int from, int to) {
    try (NativeHandle.Use context = handle.use()) {
      FlexqNative.flexq_context_fork(context.address, from, to);
    }
  }

  /**
   * Saves a sequence, its tokens with their keys, values and note, to a file that only its owner
   * can read. It appears under its name when complete; on any error what was there before is
   * untouched.
   *
   * @param sequence that holds at least one token
   * @param path of the file
   * @throws FlexqException INVALID_ARGUMENT, INVALID_STATE (an empty sequence), UNSUPPORTED_MODEL
   *     (a checkpoint), NON_FINITE, IO, NO_SPACE, NOT_FOUND (the folder), OUT_OF_MEMORY,
   *     DEVICE_LOST
   */
  public void saveSequence(int sequence, Path path) {
    byte[] name = Utf8.zeroTerminated(path.toString());
    try (NativeHandle.Use context = handle.use()) {
      FlexqNative.flexq_context_save_sequence(context.address, sequence, name);
    }
  }

  /**
   * The same as bytes: at most 2 GiB.
   *
   * @param sequence that holds at least one token
   * @return the session
   * @throws FlexqException as {@link #saveSequence(int, Path)}
   * @throws ArithmeticException for a larger session
   */
  public byte[] saveSequence(int sequence) {
    try (NativeHandle.Use context = handle.use()) {
      return Buffers.bytes(
          0,
          (bytes, length) ->
              FlexqNative.flexq_context_save_sequence_to_memory(
                  context.address, sequence, bytes, length));
    }
  }

  /**
   * Restores a saved sequence, which then goes on as if it had never stopped. After any error the
   * sequence is still empty.
   *
   * @param sequence that is empty
   * @param path of a session of this model
   * @throws FlexqException INVALID_ARGUMENT, INVALID_STATE (a sequence that is not empty),
   *     NOT_FOUND, IO, CORRUPT, LIMIT_EXCEEDED, NON_FINITE, UNSUPPORTED_VERSION, UNSUPPORTED_MODEL
   *     (a session of another model, a checkpoint), UNSUPPORTED_VALUE (another kvType),
   *     CONTEXT_FULL, OUT_OF_MEMORY, DEVICE_LOST
   */
  public void restoreSequence(int sequence, Path path) {
    byte[] name = Utf8.zeroTerminated(path.toString());
    try (NativeHandle.Use context = handle.use()) {
      FlexqNative.flexq_context_restore_sequence(context.address, sequence, name);
    }
  }

  /**
   * The same from bytes.
   *
   * @param sequence that is empty
   * @param session of this model
   * @throws FlexqException as {@link #restoreSequence(int, Path)}
   */
  public void restoreSequence(int sequence, byte[] session) {
    Objects.requireNonNull(session, "session");
    try (NativeHandle.Use context = handle.use()) {
      FlexqNative.flexq_context_restore_sequence_from_memory(context.address, sequence, session);
    }
  }

  /**
   * The tokens in the cache for a sequence, oldest first: of an answer all but the last, with which
   * the next prompt begins.
   *
   * @param sequence 0 .. nSequences - 1
   * @return their ids
   * @throws FlexqException INVALID_ARGUMENT
   */
  public int[] sequenceTokens(int sequence) {
    try (NativeHandle.Use context = handle.use()) {
      return Buffers.tokens(
          256,
          (tokens, length) ->
              FlexqNative.flexq_context_sequence_tokens(
                  context.address, sequence, tokens, length));
    }
  }

  /**
   * Bytes that are saved and restored with a sequence, otherwise kept until they are replaced.
   *
   * @param sequence 0 .. nSequences - 1
   * @param note at most 64 MiB
   * @throws FlexqException INVALID_ARGUMENT, LIMIT_EXCEEDED
   */
  public void setSequenceNote(int sequence, byte[] note) {
    Objects.requireNonNull(note, "note");
    try (NativeHandle.Use context = handle.use()) {
      FlexqNative.flexq_context_set_sequence_note(context.address, sequence, note);
    }
  }

  /**
   * The note of a sequence.
   *
   * @param sequence 0 .. nSequences - 1
   * @return no bytes where none was set
   * @throws FlexqException INVALID_ARGUMENT
   */
  public byte[] sequenceNote(int sequence) {
    try (NativeHandle.Use context = handle.use()) {
      return Buffers.bytes(
          0,
          (bytes, length) ->
              FlexqNative.flexq_context_sequence_note(context.address, sequence, bytes, length));
    }
  }

  /**
   * Scores a text under the model. Uses sequence 0, which must be empty and is empty afterwards.
   *
   * @param tokens (n) ids, n at most the context length
   * @param listener counts tokens; may be null
   * @return (n - 1): the i-th is ln p(tokens[i + 1] | tokens[0 .. i])
   * @throws FlexqException INVALID_ARGUMENT, INVALID_STATE, CONTEXT_FULL, CANCELLED, NON_FINITE
   */
  public float[] score(int[] tokens, ProgressListener listener) {
    float[] logProbs = new float[Math.max(tokens.length - 1, 0)];
    Callback callback = Callbacks.progress(listener);
    try (NativeHandle.Use context = handle.use()) {
      Callbacks.run(
          callback,
          progress ->
              FlexqNative.flexq_context_score(
                  context.address, tokens, logProbs, progress.isSet(), progress.userData()));
      return logProbs;
    }
  }

  /**
   * Scores continuations: as many side by side as the context has sequences and free pages. All
   * sequences must be empty, and are empty afterwards.
   *
   * @param continuations (n) texts
   * @param listener counts tokens; may be null
   * @return (n): the i-th is ln p(tokens | context) of the i-th text
   * @throws FlexqException INVALID_ARGUMENT (a token outside the vocabulary), INVALID_STATE (a
   *     sequence that is not empty), CONTEXT_FULL (a text that without its last token is longer
   *     than the context length or the KV cache), CANCELLED, NON_FINITE
   */
  public double[] score(Continuations continuations, ProgressListener listener) {
    Callback callback = Callbacks.progress(listener);
    try (NativeHandle.Use context = handle.use();
        NativeHandle.Use texts = continuations.useAlone()) {
      double[] scores = new double[continuations.size()];
      Callbacks.run(
          callback,
          progress ->
              FlexqNative.flexq_context_score_continuations(
                  context.address,
                  texts.address,
                  scores,
                  progress.isSet(),
                  progress.userData()));
      return scores;
    }
  }

  /** Generators and engines keep what they need; a call that runs ends normally. */
  @Override
  public void close() {
    handle.close();
  }
}
