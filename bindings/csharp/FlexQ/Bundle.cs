using System;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>An opened bundle: its directory is verified, its weights are not read. Thread-safe.
    /// </summary>
    public sealed class Bundle : IDisposable
    {
        private readonly Source _source;
        private readonly NativeHandle _handle;

        private Bundle(Source source)
        {
            _source = source;
            NativeHandle.Creator open = (out IntPtr handle) =>
            {
                IntPtr opened = IntPtr.Zero;
                source.Call(pointer => FlexqNative.flexq_bundle_open(pointer, out opened));
                handle = opened;
            };
            _handle = new NativeHandle(nameof(Bundle), open, FlexqNative.flexq_bundle_release,
                kept: source.Handle);
        }

        /// <summary>Opens the bundle of a source.</summary>
        /// <param name="source">May be disposed before the bundle is.</param>
        /// <returns>A bundle to be disposed by the caller.</returns>
        /// <exception cref="FlexqException">NotFound, IO, Corrupt, UnsupportedVersion,
        /// LimitExceeded, Signature.</exception>
        public static Bundle Open(Source source)
        {
            if (source == null)
            {
                throw new ArgumentNullException(nameof(source));
            }
            return new Bundle(source);
        }

        /// <summary>What the bundle says, as one JSON object: format_version, signature,
        /// architecture, quantization, size_bytes, bits_per_weight, tokenizer,
        /// provenance.</summary>
        /// <returns>JSON.</returns>
        public string Json()
        {
            using (NativeHandle.Lease bundle = _handle.Acquire())
            {
                IntPtr pointer = bundle.Pointer;
                return Utf8.Text(Buffers.Bytes(8192,
                    (byte[] text, long capacity, out long length) =>
                        FlexqNative.flexq_bundle_json(pointer, text, capacity, out length)));
            }
        }

        /// <summary>Reads everything: hashes, padding, decompression, value ranges.</summary>
        /// <param name="threads">0: every processor.</param>
        /// <param name="progress">Counts stored bytes; may be null.</param>
        /// <exception cref="FlexqException">IO, Corrupt, Cancelled.</exception>
        public void Verify(int threads = 0, ProgressCallback progress = null)
        {
            using (NativeHandle.Lease bundle = _handle.Acquire())
            using (var callbacks = new Callbacks { Progress = progress })
            {
                IntPtr pointer = bundle.Pointer;
                callbacks.Call(() => _source.CallOfBundle(() => FlexqNative.flexq_bundle_verify(
                    pointer, threads, callbacks.NativeProgress, callbacks.UserData)));
            }
        }

        /// <summary>Who signed the bundle. Opening has checked that the signature fits this key,
        /// but anybody can sign with a key of his own: whose it is,
        /// <see cref="Source.RequireKey"/> checks.</summary>
        /// <returns>The public key as 64 hexadecimal digits; null for an unsigned bundle.</returns>
        public string Signer()
        {
            using (NativeHandle.Lease bundle = _handle.Acquire())
            {
                IntPtr pointer = bundle.Pointer;
                string digits = Utf8.Text(Buffers.Bytes(64,
                    (byte[] text, long capacity, out long length) =>
                        FlexqNative.flexq_bundle_signer(pointer, text, capacity, out length)));
                return digits.Length == 0 ? null : digits;
            }
        }

        /// <summary>Signs the bundle in a file, or signs it again. All of it is checked first. The
        /// signed copy replaces the file when complete; on any error what was there is untouched.
        /// </summary>
        /// <param name="path">Of the bundle.</param>
        /// <param name="secretKey">An ed25519 secret key in PEM, not encrypted, as "openssl genpkey
        /// -algorithm ed25519" writes it. It is pinned and not copied; the caller overwrites it.
        /// </param>
        /// <param name="threads">0: every processor.</param>
        /// <param name="progress">Counts stored bytes checked, then bytes copied; may be null.
        /// </param>
        /// <exception cref="FlexqException">InvalidArgument (the key, or a folder), NotFound, IO,
        /// NoSpace, Cancelled, or why the bundle would not load.</exception>
        public static void Sign(
            string path, byte[] secretKey, int threads = 0, ProgressCallback progress = null)
        {
            byte[] name = Utf8.Name(path, nameof(path));
            Buffers.NotNull(secretKey, nameof(secretKey));
            using (var callbacks = new Callbacks { Progress = progress })
            {
                callbacks.Call(() => FlexqNative.flexq_bundle_sign(
                    name, secretKey, secretKey.Length, threads, callbacks.NativeProgress,
                    callbacks.UserData));
            }
        }

        /// <summary>Lets no new call in; calls that run end normally. Twice is once.</summary>
        public void Dispose()
        {
            _handle.Dispose();
        }
    }
}
