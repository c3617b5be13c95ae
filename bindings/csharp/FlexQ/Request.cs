using System;
using System.Collections.Generic;
using System.Threading;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>A request to an <see cref="Engine"/>, and its answer. Events wait until they are
    /// fetched; nobody waits for who fetches them. Read by one thread at a time (a second reader
    /// gets InvalidOperationException); Cancel, Stats and Dispose may come from any.</summary>
    public sealed class Request : IDisposable
    {
        private const long WithoutEnd = -1;

        // Reachable as long as this: one that nobody could reach would end its requests.
        private readonly Engine _engine;

        internal Request(Engine engine, NativeHandle.Creator submit)
        {
            Handle = new NativeHandle(
                nameof(Request), submit, FlexqNative.flexq_request_release);
            _engine = engine;
        }

        /// <summary>Times and counts so far. From any thread.</summary>
        public RequestStats Stats
        {
            get
            {
                using (NativeHandle.Lease request = Handle.Acquire())
                using (var stats = new flexq_request_stats())
                {
                    FlexqNative.flexq_request_get_stats(request.Pointer, stats);
                    return new RequestStats(stats);
                }
            }
        }

        internal NativeHandle Handle { get; }

        /// <summary>Waits for the next event of the answer.</summary>
        /// <returns>A token, or the last event, which has a finish reason.</returns>
        /// <exception cref="FlexqException">Cancelled (a thread that waits gets it at once when
        /// another one cancels or disposes), DeadlineExceeded, ContextFull, NonFinite, InvalidState
        /// (after the last event).</exception>
        public TokenEvent Next()
        {
            return NextWithin(WithoutEnd);
        }

        /// <summary>The next event of the answer, where it comes in time.</summary>
        /// <param name="timeout">How long to wait for it, in whole milliseconds; zero: not at all;
        /// <see cref="Timeout.InfiniteTimeSpan"/>: without end.</param>
        /// <returns>Null: there is none yet.</returns>
        /// <exception cref="FlexqException">As <see cref="Next()"/>.</exception>
        public TokenEvent Next(TimeSpan timeout)
        {
            return NextWithin((long)Math.Ceiling(timeout.TotalMilliseconds));
        }

        /// <summary>The events of the answer, waited for as they are asked for, the last one
        /// included. Leaving the loop early cancels the request.</summary>
        /// <returns>To be enumerated once.</returns>
        public IEnumerable<TokenEvent> Events()
        {
            bool ended = false;
            try
            {
                while (!ended)
                {
                    TokenEvent next = Next();
                    ended = next.FinishReason != FinishReason.None;
                    yield return next;
                }
            }
            finally
            {
                if (!ended)
                {
                    CancelUnlessDisposed();
                }
            }
        }

        /// <summary>From any thread: ends the request, waiting or running, with Cancelled, before
        /// the engine's next step at the latest. Events that are there already can still be read.
        /// </summary>
        public void Cancel()
        {
            using (NativeHandle.Lease request = Handle.Acquire())
            {
                FlexqNative.flexq_request_cancel(request.Pointer);
            }
        }

        /// <summary>The prompt's token ids.</summary>
        /// <returns>BOS included.</returns>
        public int[] PromptTokens()
        {
            using (NativeHandle.Lease request = Handle.AcquireAlone())
            {
                IntPtr pointer = request.Pointer;
                return Buffers.Tokens(256, (int[] tokens, int capacity, out int length) =>
                    FlexqNative.flexq_request_prompt_tokens(
                        pointer, tokens, capacity, out length));
            }
        }

        /// <summary>Cancels the request and lets no new call in; frees when a call that waits on
        /// another thread has ended, with Cancelled. Twice is once.</summary>
        public void Dispose()
        {
            CancelUnlessDisposed();
            Handle.Dispose();
        }

        /// <summary>Null: there is none yet.</summary>
        private TokenEvent NextWithin(long milliseconds)
        {
            using (NativeHandle.Lease request = Handle.AcquireAlone())
            using (var next = new flexq_token_event())
            {
                FlexqNative.flexq_request_next(request.Pointer, milliseconds, next);
                GC.KeepAlive(_engine);
                bool isNone = next.token < 0 && next.finish_reason == (int)FinishReason.None;
                return isNone ? null : new TokenEvent(next);
            }
        }

        private void CancelUnlessDisposed()
        {
            try
            {
                Cancel();
            }
            catch (ObjectDisposedException)
            {
                // Nothing runs that could be cancelled.
            }
        }
    }
}
