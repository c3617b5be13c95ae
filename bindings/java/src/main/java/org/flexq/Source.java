package org.flexq;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.Objects;
import org.flexq.internal.Callback;
import org.flexq.internal.CallbackReference;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.Utf8;

/** A bundle (*.flexq) or a Hugging Face checkpoint folder, before it is loaded. Thread-safe. */
public final class Source implements AutoCloseable {
  private final NativeHandle handle;
  private final Object memory; // what the native source reads from without owning it; or null
  private final Callback reader;

  private Source(long address, Object memory, Callback reader) {
    this.handle =
        new NativeHandle("Source", address, FlexqNative::flexq_source_release, memory);
    this.memory = memory;
    this.reader = reader;
  }

  /**
   * A bundle file, or a folder with a Hugging Face LLaMA checkpoint (runs unquantized) or with
   * tokenizer files alone (only {@link Tokenizer#open} takes that). Files are opened, and checked,
   * when the source is used.
   *
   * @param path of the file or folder; reaches the system as UTF-8
   * @return the source, to be closed
   * @throws FlexqException NOT_FOUND
   */
  public static Source open(Path path) {
    byte[] name = Utf8.zeroTerminated(path.toString());
    long address = NativeObject.make(out -> FlexqNative.flexq_source_open(name, out));
    return new Source(address, null, Callback.NONE);
  }

  /**
   * A bundle in memory; the bytes are copied.
   *
   * @param bundle its bytes
   * @return the source, to be closed
   */
  public static Source fromMemory(byte[] bundle) {
    return fromMemory(ByteBuffer.allocateDirect(bundle.length).put(bundle).flip());
  }

  /**
   * A bundle in memory, between a direct buffer's position and limit, not copied: it must not
   * change until the source, and every {@link Bundle} opened from it, is closed. A loaded model
   * does not need it any more.
   *
   * @param bundle a direct buffer
   * @return the source, to be closed
   * @throws IllegalArgumentException when the buffer is not direct
   */
  public static Source fromMemory(ByteBuffer bundle) {
    if (!bundle.isDirect()) {
      throw new IllegalArgumentException("expected a direct buffer");
    }
    ByteBuffer bytes = bundle.slice();
    long address = NativeObject.make(out -> FlexqNative.flexq_source_from_memory(bytes, out));
    return new Source(address, bytes, Callback.NONE);
  }

  /**
   * A bundle behind a reader, which is used until the source, and every {@link Bundle} opened from
   * it, is closed. What the reader throws reaches the caller of what needed the bytes.
   *
   * @param sizeBytes of the whole bundle
   * @param reader gives its bytes
   * @return the source, to be closed
   */
  public static Source fromReader(long sizeBytes, SourceReader reader) {
    Callback callback = Callbacks.reader(Objects.requireNonNull(reader, "reader"));
    CallbackReference reference = new CallbackReference(callback);
    long address =
        NativeObject.make(
            out ->
                FlexqNative.flexq_source_from_callback(
                    sizeBytes, true, reference.userData(), out));
    return new Source(address, reference, callback);
  }

  /**
   * Random weights of a published model's shape, made while loading: to measure speed and memory
   * without a download. Such a model has no tokenizer.
   *
   * @param shape "tinyllama-1.1b", "llama-2-7b", "llama-2-13b", "llama-2-70b", "llama-3-8b",
   *     "llama-3-70b"
   * @param options policy and precisions; null: the defaults
   * @return the source, to be closed
   * @throws FlexqException UNSUPPORTED_VALUE
   */
  public static Source synthetic(String shape, QuantizeOptions options) {
    byte[] name = Utf8.zeroTerminated(shape);
    try (NativeObject nativeOptions = QuantizeOptions.toNative(options, null)) {
      long address =
          NativeObject.make(
              out -> FlexqNative.flexq_source_synthetic(name, nativeOptions.address, out));
      return new Source(address, null, Callback.NONE);
    }
  }

  /**
   * From now on only a bundle that is signed with this key is taken from the source: whatever
   * opens it throws SIGNATURE for an unsigned bundle, another key or a signature that does not
   * fit, before anything of the bundle's directory is parsed, and for checkpoints and synthetic
   * weights, which carry no signature. A second call replaces the key. Not while another thread
   * uses the source.
   *
   * @param publicKey an ed25519 public key in PEM, as {@code openssl pkey -pubout} writes it
   * @return this
   * @throws FlexqException INVALID_ARGUMENT
   */
  public Source requireKey(String publicKey) {
    ByteBuffer pem = Utf8.direct(Utf8.bytes(publicKey));
    try (NativeHandle.Use source = handle.use()) {
      FlexqNative.flexq_source_require_key(source.address, pem);
    }
    return this;
  }

  @Override
  public void close() {
    handle.close();
  }

  NativeHandle.Use use() {
    return handle.use();
  }

  /** For a native object that goes on reading from this source. */
  Object memory() {
    return memory;
  }

  /** Throws what the reader threw, if that was why reading failed; else returns the exception. */
  FlexqException explain(FlexqException e) {
    Throwable cause = reader.takeThrown();
    if (cause instanceof IOException io) {
      UncheckedIOException unchecked = new UncheckedIOException(e.getMessage(), io);
      unchecked.addSuppressed(e);
      throw unchecked;
    }
    if (cause instanceof RuntimeException runtime) {
      throw runtime;
    }
    if (cause instanceof Error error) {
      throw error;
    }
    return e;
  }
}
