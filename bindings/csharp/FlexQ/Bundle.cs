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
        /// LimitExceeded.</exception>
        public static Bundle Open(Source source)
        {
            if (source == null)
            {
                throw new ArgumentNullException(nameof(source));
            }
            return new Bundle(source);
        }

        /// <summary>What the bundle says, as one JSON object: format_version, architecture,
        /// quantization, size_bytes, bits_per_weight, tokenizer, provenance.</summary>
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

        /// <summary>Lets no new call in; calls that run end normally. Twice is once.</summary>
        public void Dispose()
        {
            _handle.Dispose();
        }
    }
}
