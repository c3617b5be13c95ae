package org.flexq;

import java.nio.file.Path;
import java.util.AbstractList;
import java.util.List;
import java.util.Objects;
import java.util.RandomAccess;
import org.flexq.internal.Callback;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.PlanStruct;

/**
 * Loaded weights with their tokenizer and thread pool. Immutable and shareable between threads.
 * Contexts keep what they need of it, so it may be closed before them.
 */
public final class Model implements AutoCloseable {
  private final NativeHandle handle;
  private final ModelInfo info;

  private Model(long address) {
    handle = new NativeHandle("Model", address, FlexqNative::flexq_model_release);
    info = ModelInfo.of(address);
  }

  /**
   * Loads a bundle file or a checkpoint folder with the default options.
   *
   * @param path of the file or folder
   * @return the model, to be closed
   * @throws FlexqException as {@link #load(Source, ModelOptions)}
   */
  public static Model load(Path path) {
    return load(path, null);
  }

  /**
   * Loads a bundle file or a checkpoint folder.
   *
   * @param path of the file or folder
   * @param options null: the defaults
   * @return the model, to be closed
   * @throws FlexqException as {@link #load(Source, ModelOptions)}
   */
  public static Model load(Path path, ModelOptions options) {
    try (Source source = Source.open(path)) {
      return load(source, options);
    }
  }

  /**
   * Verifies and loads the whole model into the device's memory.
   *
   * @param source not needed any more afterwards
   * @param options null: the defaults
   * @return the model, to be closed
   * @throws FlexqException NOT_FOUND, IO, CORRUPT, UNSUPPORTED_VERSION, UNSUPPORTED_MODEL,
   *     LIMIT_EXCEEDED, SIGNATURE, NON_FINITE, OUT_OF_MEMORY, NO_DEVICE, DEVICE_UNSUPPORTED,
   *     DEVICE_LOST, CANCELLED; UNKNOWN_OPTION, UNSUPPORTED_VALUE, INVALID_ARGUMENT for the options
   */
  public static Model load(Source source, ModelOptions options) {
    Callback callback = Callbacks.progress(options == null ? null : options.progress());
    Model[] model = new Model[1];
    try (NativeHandle.Use from = source.use()) {
      Callbacks.run(
          callback,
          progress -> {
            try (NativeObject with = ModelOptions.toNative(options, progress)) {
              model[0] =
                  new Model(
                      NativeObject.make(
                          out -> FlexqNative.flexq_model_load(from.address, with.address, out)));
            }
          });
      return model[0];
    } catch (Throwable t) {
      // A listener may throw when all is loaded already.
      if (model[0] != null) {
        model[0].close();
      }
      if (t instanceof FlexqException e) {
        throw source.explain(e);
      }
      throw t;
    }
  }

  /**
   * The memory that loading, and one context, would take. Reads headers only.
   *
   * @param source of the model
   * @param options null: the defaults
   * @param contextOptions null: the defaults
   * @return the plan
   * @throws FlexqException as {@link #load(Source, ModelOptions)}
   */
  public static ModelPlan plan(
      Source source, ModelOptions options, ContextOptions contextOptions) {
    final int onlyDevice = 0;
    try (NativeHandle.Use from = source.use();
        NativeObject with = ModelOptions.toNative(options, null);
        NativeObject and = ContextOptions.toNative(contextOptions);
        PlanStruct plan = new PlanStruct()) {
      FlexqNative.flexq_model_plan(from.address, with.address, and.address, onlyDevice, plan);
      return ModelPlan.of(plan);
    } catch (FlexqException e) {
      throw source.explain(e);
    }
  }

  /**
   * Shape and size of the model.
   *
   * @return the same object always
   */
  public ModelInfo info() {
    handle.checkOpen();
    return info;
  }

  /**
   * The model's tensors.
   *
   * @return a view: its elements are read from the open model
   */
  public List<TensorInfo> tensors() {
    final int size;
    try (NativeHandle.Use model = handle.use()) {
      size = FlexqNative.flexq_model_tensor_count(model.address);
    }
    return new Tensors(size);
  }

  /**
   * Whether a token ends a text.
   *
   * @param token any number
   * @return true for the model's EOS ids
   */
  public boolean isEndToken(int token) {
    try (NativeHandle.Use model = handle.use()) {
      return FlexqNative.flexq_model_is_end_token(model.address, token) != 0;
    }
  }

  /**
   * The model's tokenizer, which may outlive the model.
   *
   * @return the tokenizer, to be closed
   * @throws FlexqException NOT_FOUND: the model has none
   */
  public Tokenizer tokenizer() {
    try (NativeHandle.Use model = handle.use()) {
      return new Tokenizer(
          NativeObject.make(out -> FlexqNative.flexq_model_tokenizer(model.address, out)));
    }
  }

  /**
   * A context of the default size.
   *
   * @return the context, to be closed
   * @throws FlexqException as {@link #createContext(ContextOptions)}
   */
  public Context createContext() {
    return createContext(null);
  }

  /**
   * A KV cache and workspace on this model. Everything it will ever need is allocated here.
   *
   * @param options null: the defaults
   * @return the context, to be closed
   * @throws FlexqException OUT_OF_MEMORY, UNSUPPORTED_VALUE, LIMIT_EXCEEDED
   */
  public Context createContext(ContextOptions options) {
    try (NativeHandle.Use model = handle.use();
        NativeObject with = ContextOptions.toNative(options)) {
      long address =
          NativeObject.make(
              out -> FlexqNative.flexq_context_create(model.address, with.address, out));
      return new Context(address, info);
    }
  }

  /** Contexts keep what they need; a call that runs ends normally. */
  @Override
  public void close() {
    handle.close();
  }

  NativeHandle.Use use() {
    return handle.use();
  }

  private final class Tensors extends AbstractList<TensorInfo> implements RandomAccess {
    private final int size;

    Tensors(int size) {
      this.size = size;
    }

    @Override
    public TensorInfo get(int index) {
      Objects.checkIndex(index, size);
      try (NativeHandle.Use model = handle.use()) {
        return TensorInfo.of(model.address, index);
      }
    }

    @Override
    public int size() {
      return size;
    }
  }
}
