using System;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Texts to score, as tokens: each a continuation behind its context. One thread at a
    /// time: a call while another thread is inside throws InvalidOperationException.</summary>
    public sealed class Continuations : IDisposable
    {
        /// <summary>No texts.</summary>
        public Continuations()
        {
            Handle = new NativeHandle(nameof(Continuations),
                (out IntPtr handle) => FlexqNative.flexq_continuations_create(out handle),
                FlexqNative.flexq_continuations_release);
        }

        /// <summary>Texts added since the last <see cref="Clear"/>.</summary>
        public int Count { get; private set; }

        internal NativeHandle Handle { get; }

        /// <summary>Appends a text.</summary>
        /// <param name="context">At least one token (BOS, if nothing else).</param>
        /// <param name="tokens">At least one token.</param>
        /// <exception cref="FlexqException">InvalidArgument.</exception>
        public void Add(int[] context, int[] tokens)
        {
            Buffers.NotNull(context, nameof(context));
            Buffers.NotNull(tokens, nameof(tokens));
            using (NativeHandle.Lease continuations = Handle.AcquireAlone())
            {
                FlexqNative.flexq_continuations_add(
                    continuations.Pointer, context, context.Length, tokens, tokens.Length);
                Count++;
            }
        }

        /// <summary>Forgets all texts.</summary>
        public void Clear()
        {
            using (NativeHandle.Lease continuations = Handle.AcquireAlone())
            {
                FlexqNative.flexq_continuations_clear(continuations.Pointer);
                Count = 0;
            }
        }

        /// <summary>Frees the texts. Twice is once.</summary>
        public void Dispose()
        {
            Handle.Dispose();
        }
    }
}
