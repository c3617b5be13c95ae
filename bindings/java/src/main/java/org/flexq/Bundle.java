package org.flexq;

import java.nio.ByteBuffer;
import java.nio.file.Path;
import org.flexq.internal.Callback;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.Utf8;

/** An opened bundle: directory verified, weights not read. Thread-safe. */
public final class Bundle implements AutoCloseable {
  private static final int LIKELY_BYTES = 4096;
  private static final int SIGNER_DIGITS = 64;

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
   * What the bundle says: format_version, signature, architecture, quantization (policy,
   * group_size, layers), size_bytes, bits_per_weight, tokenizer, provenance; flexq.h says more of
   * it.
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

  /**
   * Who signed the bundle. Opening has checked that the signature fits this key, but anybody can
   * sign with a key of his own: whose it is, {@link Source#requireKey} checks.
   *
   * @return the public key as 64 hexadecimal digits; null for an unsigned bundle
   */
  public String signer() {
    try (NativeHandle.Use bundle = handle.use()) {
      byte[] digits =
          Buffers.bytes(
              SIGNER_DIGITS,
              (bytes, length) -> FlexqNative.flexq_bundle_signer(bundle.address, bytes, length));
      return digits.length == 0 ? null : Utf8.string(digits);
    }
  }

  /**
   * Signs the bundle in a file, or signs it again. All of it is checked first. The signed copy
   * replaces the file when complete; on any error what was there is untouched.
   *
   * @param bundle the file
   * @param secretKey an ed25519 secret key in PEM, not encrypted, as {@code openssl genpkey
   *     -algorithm ed25519} writes it; no copy is kept, and the caller overwrites the array
   * @param nThreads 0: every processor
   * @param listener counts stored bytes checked, then bytes copied; may be null
   * @throws FlexqException INVALID_ARGUMENT (the key, or a folder), NOT_FOUND, IO, NO_SPACE,
   *     CANCELLED, OUT_OF_MEMORY; as {@link Model#load(Source, ModelOptions)} for a bundle that
   *     would not load
   */
  public static void sign(
      Path bundle, byte[] secretKey, int nThreads, ProgressListener listener) {
    byte[] path = Utf8.zeroTerminated(bundle.toString());
    // Outside of the heap, where the collector makes no copies.
    ByteBuffer pem = Utf8.direct(secretKey);
    try {
      Callbacks.run(
          Callbacks.progress(listener),
          progress ->
              FlexqNative.flexq_bundle_sign(
                  path, pem, nThreads, progress.isSet(), progress.userData()));
    } finally {
      for (int i = 0; i < pem.capacity(); i++) {
        pem.put(i, (byte) 0);
      }
    }
  }

  @Override
  public void close() {
    handle.close();
  }
}
