package org.flexq;

import org.flexq.internal.Callback;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.Utf8;

/** An opened bundle: directory verified, weights not read. Thread-safe. */
public final class Bundle implements AutoCloseable {
  private static final int LIKELY_BYTES = 4096;

  private final NativeHandle handle;
  private final Source source;

  private Bundle(long address, Source source) {
    this.handle =
        new NativeHandle(
            "Bundle", address, FlexqNative::flexq_bundle_release, source.memory());
    this.source = source;
  }

  /**
   * Opens the bundle of a source, which may be closed before it.
   *
   * @param source a bundle
   * @return the bundle, to be closed
   * @throws FlexqException as {@link Model#load(Source, ModelOptions)}
   */
  public static Bundle open(Source source) {
    try (NativeHandle.Use from = source.use()) {
      return new Bundle(
          NativeObject.make(out -> FlexqNative.flexq_bundle_open(from.address, out)), source);
    } catch (FlexqException e) {
      throw source.explain(e);
    }
  }

  /**
   * What the bundle says: format_version, architecture, quantization (policy, group_size, layers),
   * size_bytes, bits_per_weight, tokenizer, provenance; flexq.h says more of it.
   *
   * @return one JSON object
   */
  public String json() {
    try (NativeHandle.Use bundle = handle.use()) {
      return Utf8.string(
          Buffers.bytes(
              LIKELY_BYTES,
              (bytes, length) -> FlexqNative.flexq_bundle_json(bundle.address, bytes, length)));
    }
  }

  /**
   * Reads everything: hashes, padding, decompression, value ranges.
   *
   * @param nThreads 0: every processor
   * @param listener counts stored bytes; may be null
   * @throws FlexqException CORRUPT, IO, CANCELLED, OUT_OF_MEMORY
   */
  public void verify(int nThreads, ProgressListener listener) {
    Callback callback = Callbacks.progress(listener);
    try (NativeHandle.Use bundle = handle.use()) {
      Callbacks.run(
          callback,
          progress ->
              FlexqNative.flexq_bundle_verify(
                  bundle.address, nThreads, progress.isSet(), progress.userData()));
    } catch (FlexqException e) {
      throw source.explain(e);
    }
  }

  @Override
  public void close() {
    handle.close();
  }
}
