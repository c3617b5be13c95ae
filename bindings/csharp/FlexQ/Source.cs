using System;
using System.IO;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Where a model comes from, before it is loaded: a bundle (*.flexq) or a Hugging Face
    /// checkpoint folder. Thread-safe. Not needed any more once what was loaded from it is there.
    /// </summary>
    public sealed class Source : IDisposable
    {
        private readonly SourceReader _reader;

        private Source(NativeHandle handle, SourceReader reader = null)
        {
            Handle = handle;
            _reader = reader;
        }

        internal NativeHandle Handle { get; }

        /// <summary>A bundle file, a folder with a Hugging Face LLaMA checkpoint (runs unquantized)
        /// or one with tokenizer files alone. Files are opened, and checked, when the source is
        /// used.</summary>
        /// <param name="path">Of the file or folder.</param>
        /// <returns>A source to be disposed by the caller.</returns>
        /// <exception cref="FlexqException">NotFound.</exception>
        public static Source Open(string path)
        {
            byte[] name = Utf8.Name(path, nameof(path));
            return new Source(new NativeHandle(nameof(Source),
                (out IntPtr handle) => FlexqNative.flexq_source_open(name, out handle),
                FlexqNative.flexq_source_release));
        }

        /// <summary>A bundle in memory. The array is not copied: it must stay as it is until the
        /// source and every <see cref="Bundle"/> opened from it are disposed.</summary>
        /// <param name="bytes">The bundle.</param>
        /// <returns>A source to be disposed by the caller.</returns>
        public static Source FromMemory(byte[] bytes)
        {
            var pinned = new PinnedBytes(Buffers.NotNull(bytes, nameof(bytes)));
            try
            {
                return new Source(new NativeHandle(nameof(Source),
                    (out IntPtr handle) => FlexqNative.flexq_source_from_memory(
                        pinned.Address, bytes.Length, out handle),
                    FlexqNative.flexq_source_release, pinned));
            }
            catch
            {
                pinned.Dispose();
                throw;
            }
        }

        /// <summary>A bundle behind a read callback: an archive, an object store. It is called
        /// until the source and every <see cref="Bundle"/> opened from it are disposed; what it
        /// throws reaches the caller of the method that read.</summary>
        /// <param name="sizeBytes">Of the whole bundle.</param>
        /// <param name="read">Called by several threads at once.</param>
        /// <returns>A source to be disposed by the caller.</returns>
        public static Source FromReader(long sizeBytes, ReadCallback read)
        {
            if (read == null)
            {
                throw new ArgumentNullException(nameof(read));
            }
            var reader = new SourceReader(read);
            try
            {
                return new Source(new NativeHandle(nameof(Source),
                    (out IntPtr handle) => FlexqNative.flexq_source_from_callback(
                        sizeBytes, SourceReader.Native, reader.UserData, out handle),
                    FlexqNative.flexq_source_release, reader), reader);
            }
            catch
            {
                reader.Dispose();
                throw;
            }
        }

        /// <summary>A bundle in a stream that can seek, from its beginning. The stream must stay
        /// open, and untouched by others, as long as a read callback would be used.</summary>
        /// <param name="stream">Read by one thread at a time; not disposed.</param>
        /// <returns>A source to be disposed by the caller.</returns>
        public static Source FromStream(Stream stream)
        {
            if (stream == null)
            {
                throw new ArgumentNullException(nameof(stream));
            }
            return FromReader(stream.Length, (offset, buffer, count) =>
            {
                lock (stream)
                {
                    stream.Position = offset;
                    for (int done = 0; done < count;)
                    {
                        int read = stream.Read(buffer, done, count - done);
                        if (read == 0)
                        {
                            throw new EndOfStreamException();
                        }
                        done += read;
                    }
                }
            });
        }

        /// <summary>Random weights of a published model's shape, made while loading, to measure
        /// speed and memory without a download. Such a model has no tokenizer.</summary>
        /// <param name="shape">"tinyllama-1.1b", "llama-2-7b", "llama-2-13b", "llama-2-70b",
        /// "llama-3-8b", "llama-3-70b".</param>
        /// <param name="options">Policy and precisions; null: the defaults.</param>
        /// <returns>A source to be disposed by the caller.</returns>
        /// <exception cref="FlexqException">UnsupportedValue.</exception>
        public static Source Synthetic(string shape, QuantizeOptions options = null)
        {
            byte[] name = Utf8.Name(shape, nameof(shape));
            using (var callbacks = new Callbacks())
            using (NativeHandle nativeOptions = QuantizeOptions.ToNative(options, callbacks))
            using (NativeHandle.Lease lease = nativeOptions.Acquire())
            {
                return new Source(new NativeHandle(nameof(Source),
                    (out IntPtr handle) => FlexqNative.flexq_source_synthetic(
                        name, lease.Pointer, out handle),
                    FlexqNative.flexq_source_release));
            }
        }

        /// <summary>From now on only a bundle that is signed with this key is taken from the
        /// source: whatever opens it fails with Signature for an unsigned bundle, another key or a
        /// signature that does not fit, before anything of its directory is parsed, and for
        /// checkpoints and synthetic weights, which carry no signature. A second call replaces the
        /// key. Not while another thread uses the source.</summary>
        /// <param name="publicKey">An ed25519 public key in PEM, as "openssl pkey -pubout" writes
        /// it.</param>
        /// <exception cref="FlexqException">InvalidArgument.</exception>
        public void RequireKey(string publicKey)
        {
            byte[] pem = Utf8.Text(publicKey, nameof(publicKey));
            using (NativeHandle.Lease lease = Handle.Acquire())
            {
                FlexqNative.flexq_source_require_key(lease.Pointer, pem, pem.Length);
            }
        }

        /// <summary>Lets no new call in; frees when the last call that uses it has ended. Twice is
        /// once.</summary>
        public void Dispose()
        {
            Handle.Dispose();
        }

        /// <summary>Runs a native call that reads; throws what the read callback threw.</summary>
        internal void Call(Action<IntPtr> call)
        {
            using (NativeHandle.Lease lease = Handle.Acquire())
            {
                if (_reader == null)
                {
                    call(lease.Pointer);
                }
                else
                {
                    IntPtr pointer = lease.Pointer;
                    _reader.Call(() => call(pointer));
                }
            }
        }

        /// <summary>The same for a bundle's calls, whose handle keeps this one.</summary>
        internal void CallOfBundle(Action call)
        {
            if (_reader == null)
            {
                call();
            }
            else
            {
                _reader.Call(call);
            }
        }
    }
}
