package org.flexq;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.Utf8;

/**
 * What an answer is to be. What is not set has the library's default. Values are checked when the
 * options are used (INVALID_ARGUMENT, UNSUPPORTED_VALUE). Reusable; not changed by being used.
 */
public final class GeneratorOptions {
  private final List<String> stops = new ArrayList<>();
  private final List<Integer> stopTokens = new ArrayList<>();
  private final List<ChatStops> chatStops = new ArrayList<>();
  private Integer sequence;
  private Integer maxTokens;
  private SamplingOptions sampling;
  private Boolean ignoreEnd;
  private Duration deadline;
  private Integer nAlternatives;
  private String format;
  private Integer priority;

  private record ChatStops(Tokenizer tokenizer, String templateName) {}

  /** The defaults. */
  public GeneratorOptions() {}

  /**
   * Sequence of the context to write to. For requests an engine chooses it.
   *
   * @param number default 0
   * @return this
   */
  public GeneratorOptions sequence(int number) {
    sequence = number;
    return this;
  }

  /**
   * Most tokens to generate.
   *
   * @param n default 256; 0: until the context is full
   * @return this
   */
  public GeneratorOptions maxTokens(int n) {
    maxTokens = n;
    return this;
  }

  /**
   * How tokens are drawn.
   *
   * @param options null: greedy, the default; read when the generator is created
   * @return this
   */
  public GeneratorOptions sampling(SamplingOptions options) {
    sampling = options;
    return this;
  }

  /**
   * Ends the text before the first occurrence of a string, wherever token borders lie.
   *
   * @param text of 1 to 1,024 bytes in UTF-8; up to 64 of them
   * @return this
   */
  public GeneratorOptions stop(String text) {
    stops.add(Objects.requireNonNull(text, "text"));
    return this;
  }

  /**
   * Ends the answer at a token, as at the model's own end tokens.
   *
   * @param token its id
   * @return this
   */
  public GeneratorOptions stopToken(int token) {
    stopTokens.add(token);
    return this;
  }

  /**
   * Adds all that ends an answer in a chat format: the tokens of {@link Tokenizer#chatStopTokens}
   * and, where role markers are text, the text that begins the user's next turn.
   *
   * @param tokenizer of the model, open when the generator is created
   * @param templateName the format; null: the model's own
   * @return this
   */
  public GeneratorOptions chatStops(Tokenizer tokenizer, String templateName) {
    chatStops.add(new ChatStops(Objects.requireNonNull(tokenizer, "tokenizer"), templateName));
    return this;
  }

  /**
   * Goes on after the model's end tokens and after stop tokens.
   *
   * @param ignore default false
   * @return this
   */
  public GeneratorOptions ignoreEnd(boolean ignore) {
    ignoreEnd = ignore;
    return this;
  }

  /**
   * Time for the answer, from its start (of a request: from when it is submitted); seen between
   * layers.
   *
   * @param time in whole milliseconds; zero (default): no deadline
   * @return this
   */
  public GeneratorOptions deadline(Duration time) {
    deadline = time;
    return this;
  }

  /**
   * Reports, with every token, the most probable alternatives.
   *
   * @param n 0 .. 20, default 0
   * @return this
   */
  public GeneratorOptions logProbs(int n) {
    nAlternatives = n;
    return this;
  }

  /**
   * What the answer must be. A JSON object is always whole: it is closed in time where maxTokens or
   * the context length is near; only a cancel, a deadline, a stop string and an error cut it off.
   *
   * @param name "text" (default): anything; "json": one JSON object
   * @return this
   */
  public GeneratorOptions format(String name) {
    format = Objects.requireNonNull(name, "name");
    return this;
  }

  /**
   * For requests to an engine; a generator ignores it.
   *
   * @param level -100 .. 100, default 0
   * @return this
   */
  public GeneratorOptions priority(int level) {
    priority = level;
    return this;
  }

  /** options may be null. */
  static NativeObject toNative(GeneratorOptions options) {
    if (options == null) {
      return NativeObject.NONE;
    }
    return NativeObject.create(
        FlexqNative::flexq_generator_options_create,
        FlexqNative::flexq_generator_options_release,
        options::configure);
  }

  private void configure(long address) {
    if (sequence != null) {
      FlexqNative.flexq_generator_options_set_sequence(address, sequence);
    }
    if (maxTokens != null) {
      FlexqNative.flexq_generator_options_set_max_tokens(address, maxTokens);
    }
    if (sampling != null) {
      try (NativeObject nativeSampling = sampling.toNative()) {
        FlexqNative.flexq_generator_options_set_sampling(address, nativeSampling.address);
      }
    }
    for (String stop : stops) {
      FlexqNative.flexq_generator_options_add_stop(address, Utf8.bytes(stop));
    }
    for (int token : stopTokens) {
      FlexqNative.flexq_generator_options_add_stop_token(address, token);
    }
    for (ChatStops stop : chatStops) {
      try (NativeHandle.Use tokenizer = stop.tokenizer().use()) {
        FlexqNative.flexq_generator_options_add_chat_stops(
            address, tokenizer.address, Utf8.zeroTerminated(stop.templateName()));
      }
    }
    if (ignoreEnd != null) {
      FlexqNative.flexq_generator_options_set_ignore_end(address, ignoreEnd ? 1 : 0);
    }
    if (deadline != null) {
      FlexqNative.flexq_generator_options_set_deadline(address, deadline.toMillis());
    }
    if (nAlternatives != null) {
      FlexqNative.flexq_generator_options_set_log_probs(address, nAlternatives);
    }
    if (format != null) {
      FlexqNative.flexq_generator_options_set_format(address, Utf8.zeroTerminated(format));
    }
    if (priority != null) {
      FlexqNative.flexq_generator_options_set_priority(address, priority);
    }
  }
}
