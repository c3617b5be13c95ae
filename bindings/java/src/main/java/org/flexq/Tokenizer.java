package org.flexq;

import java.util.Set;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.Utf8;

/**
 * Text to token ids and back. Immutable and shareable between threads.
 *
 * <p>A chat model was trained on conversations written in one format. FlexQ applies formats by
 * name: "llama-2", "llama-3", "chatml", "zephyr", "vicuna". A template name of null means the
 * format of the model's own template, which is NOT_FOUND where the model has none and
 * UNSUPPORTED_MODEL where it is none of these; another name is UNSUPPORTED_VALUE.
 */
public final class Tokenizer implements AutoCloseable {
  // First guess of a result's length, so that most calls need no second one.
  private static final int LIKELY_BYTES = 256;
  private static final int FEW_TOKENS = 8;
  private static final int MOST_TOKENS_AT_FIRST = 1 << 20;

  private final NativeHandle handle;

  Tokenizer(long address) {
    handle = new NativeHandle("Tokenizer", address, FlexqNative::flexq_tokenizer_release);
  }

  /**
   * Reads only the tokenizer of a source: a bundle, a checkpoint, or a folder with tokenizer.model
   * (SentencePiece BPE or tiktoken's ranks) or tokenizer.json (BPE).
   *
   * @param source not needed any more afterwards
   * @return the tokenizer, to be closed
   * @throws FlexqException as {@link Model#load(Source, ModelOptions)}; NOT_FOUND: there is none
   */
  public static Tokenizer open(Source source) {
    try (NativeHandle.Use from = source.use()) {
      return new Tokenizer(
          NativeObject.make(out -> FlexqNative.flexq_tokenizer_open(from.address, out)));
    } catch (FlexqException e) {
      throw source.explain(e);
    }
  }

  /**
   * Number of tokens.
   *
   * @return ids are 0 .. n - 1
   */
  public int vocabSize() {
    try (NativeHandle.Use tokenizer = handle.use()) {
      return FlexqNative.flexq_tokenizer_vocab_size(tokenizer.address);
    }
  }

  /**
   * Text to token ids, BOS in front where the model wants one.
   *
   * @param text any
   * @return the ids
   * @throws FlexqException as {@link #encode(String, Set)}
   */
  public int[] encode(String text) {
    return encode(text, EncodeFlag.DEFAULT);
  }

  /**
   * Text to token ids.
   *
   * @param text any; an unpaired surrogate is encoded as "?"
   * @param flags see {@link EncodeFlag}
   * @return the ids
   * @throws FlexqException LIMIT_EXCEEDED (over 2^28 bytes, or a tokenizer whose regular expression
   *     takes more work than that)
   */
  public int[] encode(String text, Set<EncodeFlag> flags) {
    byte[] utf8 = Utf8.bytes(text);
    int bits = EncodeFlag.bits(flags);
    int likely = Math.min(utf8.length + FEW_TOKENS, MOST_TOKENS_AT_FIRST);
    try (NativeHandle.Use tokenizer = handle.use()) {
      return Buffers.tokens(
          likely,
          (tokens, length) ->
              FlexqNative.flexq_tokenizer_encode(tokenizer.address, utf8, bits, tokens, length));
    }
  }

  /**
   * Token ids to text; control tokens such as BOS and EOS give nothing. The bytes that form no
   * whole character become U+FFFD each.
   *
   * @param tokens ids
   * @return the text
   * @throws FlexqException INVALID_ARGUMENT (a token outside the vocabulary)
   */
  public String decode(int... tokens) {
    try (NativeHandle.Use tokenizer = handle.use()) {
      return Utf8.string(
          Buffers.bytes(
              LIKELY_BYTES + 4 * Math.min(tokens.length, MOST_TOKENS_AT_FIRST),
              (bytes, length) ->
                  FlexqNative.flexq_tokenizer_decode(tokenizer.address, tokens, bytes, length)));
    }
  }

  /**
   * The bytes that one token adds in the middle of a text: maybe a part of a character.
   *
   * @param token its id
   * @return UTF-8 or a piece of it
   * @throws FlexqException INVALID_ARGUMENT (a token outside the vocabulary)
   */
  public byte[] tokenBytes(int token) {
    try (NativeHandle.Use tokenizer = handle.use()) {
      return Buffers.bytes(
          LIKELY_BYTES,
          (bytes, length) ->
              FlexqNative.flexq_tokenizer_token_bytes(tokenizer.address, token, bytes, length));
    }
  }

  /**
   * The name of the format of the model's own template.
   *
   * @return for example "llama-3"
   * @throws FlexqException NOT_FOUND, UNSUPPORTED_MODEL
   */
  public String chatTemplate() {
    byte[][] name = new byte[1][];
    try (NativeHandle.Use tokenizer = handle.use()) {
      FlexqNative.flexq_tokenizer_chat_template(tokenizer.address, name);
      return Utf8.string(name[0]);
    }
  }

  /**
   * The model's own Jinja template, verbatim, known or not.
   *
   * @return empty where the model has none
   */
  public String chatTemplateText() {
    try (NativeHandle.Use tokenizer = handle.use()) {
      return Utf8.string(
          Buffers.bytes(
              LIKELY_BYTES,
              (bytes, length) ->
                  FlexqNative.flexq_tokenizer_chat_template_text(
                      tokenizer.address, bytes, length)));
    }
  }

  /**
   * The tokens of a conversation, BOS included where the format or the model wants it. Contents are
   * text whatever they spell: "&lt;|eot_id|&gt;" in a message is not the token. (In "llama-2" and
   * "vicuna", and in "zephyr" for most models, role markers are plain text, which a message can
   * spell too.)
   *
   * @param templateName the format; null: the model's own
   * @param chat at least one message
   * @param addGenerationPrompt end with what makes the model answer
   * @return the ids, for {@link Generator#start(int...)} or a batch
   * @throws FlexqException INVALID_ARGUMENT (no message; an order that the format does not know),
   *     UNSUPPORTED_MODEL (the tokenizer lacks a token of the format), LIMIT_EXCEEDED
   */
  public int[] encodeChat(String templateName, Chat chat, boolean addGenerationPrompt) {
    byte[] name = Utf8.zeroTerminated(templateName);
    int prompt = addGenerationPrompt ? 1 : 0;
    try (NativeHandle.Use tokenizer = handle.use();
        NativeHandle.Use messages = chat.useAlone()) {
      return Buffers.tokens(
          LIKELY_BYTES,
          (tokens, length) ->
              FlexqNative.flexq_tokenizer_encode_chat(
                  tokenizer.address, name, messages.address, prompt, tokens, length));
    }
  }

  /**
   * Tokens that end an answer in a format.
   *
   * @param templateName the format; null: the model's own
   * @return ids, ascending
   * @throws FlexqException UNSUPPORTED_MODEL (the tokenizer lacks a token of the format)
   */
  public int[] chatStopTokens(String templateName) {
    byte[] name = Utf8.zeroTerminated(templateName);
    try (NativeHandle.Use tokenizer = handle.use()) {
      return Buffers.tokens(
          FEW_TOKENS,
          (tokens, length) ->
              FlexqNative.flexq_tokenizer_chat_stop_tokens(
                  tokenizer.address, name, tokens, length));
    }
  }

  @Override
  public void close() {
    handle.close();
  }

  NativeHandle.Use use() {
    return handle.use();
  }
}
