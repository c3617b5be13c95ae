using System;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Tokens for several sequences, with the outputs wanted: what one
    /// <see cref="Context.Decode"/> computes. One thread at a time, but for
    /// <see cref="Cancel"/>: a call while another thread is inside throws
    /// InvalidOperationException.</summary>
    public sealed class Batch : IDisposable
    {
        /// <summary>An empty batch.</summary>
        public Batch()
        {
            Handle = new NativeHandle(nameof(Batch),
                (out IntPtr handle) => FlexqNative.flexq_batch_create(out handle),
                FlexqNative.flexq_batch_release);
        }

        internal NativeHandle Handle { get; }

        /// <summary>Appends tokens to be put after the present end of a sequence, which may occur
        /// once per batch. Output rows are numbered from 0 in the order of adding.</summary>
        /// <param name="sequence">Of the context.</param>
        /// <param name="tokens">Copied.</param>
        /// <param name="output">Rows wanted for them.</param>
        /// <exception cref="FlexqException">InvalidArgument.</exception>
        public void Add(int sequence, int[] tokens, OutputRows output = OutputRows.Last)
        {
            Buffers.NotNull(tokens, nameof(tokens));
            using (NativeHandle.Lease batch = Handle.AcquireAlone())
            {
                FlexqNative.flexq_batch_add(
                    batch.Pointer, sequence, tokens, tokens.Length, (int)output);
            }
        }

        /// <summary>Appends one token.</summary>
        /// <param name="sequence">Of the context.</param>
        /// <param name="token">Token id.</param>
        /// <param name="output">Whether a row is wanted.</param>
        /// <exception cref="FlexqException">InvalidArgument.</exception>
        public void Add(int sequence, int token, OutputRows output = OutputRows.Last)
        {
            Add(sequence, new[] { token }, output);
        }

        /// <summary>Empties the batch and takes back a cancel.</summary>
        public void Clear()
        {
            using (NativeHandle.Lease batch = Handle.AcquireAlone())
            {
                FlexqNative.flexq_batch_clear(batch.Pointer);
            }
        }

        /// <summary>From any thread: the decode that runs with this batch, or the next one to start
        /// with it, throws Cancelled. In force until <see cref="Clear"/>.</summary>
        public void Cancel()
        {
            using (NativeHandle.Lease batch = Handle.Acquire())
            {
                FlexqNative.flexq_batch_cancel(batch.Pointer);
            }
        }

        /// <summary>Frees the batch, after a decode that runs with it. Twice is once.</summary>
        public void Dispose()
        {
            Handle.Dispose();
        }
    }
}
