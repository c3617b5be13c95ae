using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>One answer: created, started once, run to its end. One thread at a time, as its
    /// context, but for <see cref="Cancel"/> and <see cref="Dispose"/>.</summary>
    public sealed class Generator : IDisposable
    {
        internal Generator(Context context, GeneratorOptions options)
        {
            using (NativeHandle.Lease contextLease = context.Handle.Acquire())
            using (NativeHandle optionsHandle = GeneratorOptions.ToNative(options))
            using (NativeHandle.Lease optionsLease = optionsHandle.Acquire())
            {
                Handle = new NativeHandle(nameof(Generator),
                    (out IntPtr handle) => FlexqNative.flexq_generator_create(
                        contextLease.Pointer, optionsLease.Pointer, out handle),
                    FlexqNative.flexq_generator_release);
            }
        }

        /// <summary>Times and counts so far.</summary>
        public GeneratorStats Stats
        {
            get
            {
                using (NativeHandle.Lease generator = Handle.Acquire())
                {
                    return ReadStats(generator.Pointer);
                }
            }
        }

        internal NativeHandle Handle { get; }

        /// <summary>Sets the prompt, appended to what the sequence already holds. Computes nothing
        /// yet, starts the deadline.</summary>
        /// <param name="prompt">Any text.</param>
        /// <param name="flags">Whether BOS is added, whether special tokens are read.</param>
        /// <exception cref="FlexqException">InvalidState (started before), InvalidArgument (a
        /// prompt without a token), ContextFull.</exception>
        public void Start(string prompt, EncodeFlags flags = EncodeFlags.Default)
        {
            byte[] text = Utf8.Text(prompt, nameof(prompt));
            using (NativeHandle.Lease generator = Handle.Acquire())
            {
                FlexqNative.flexq_generator_start(
                    generator.Pointer, text, text.Length, (int)flags);
            }
        }

        /// <summary>Sets the prompt as token ids.</summary>
        /// <param name="tokens">At least one.</param>
        /// <exception cref="FlexqException">InvalidState (started before), InvalidArgument (no
        /// token, a token outside the vocabulary), ContextFull.</exception>
        public void Start(int[] tokens)
        {
            Buffers.NotNull(tokens, nameof(tokens));
            using (NativeHandle.Lease generator = Handle.Acquire())
            {
                FlexqNative.flexq_generator_start_tokens(
                    generator.Pointer, tokens, tokens.Length);
            }
        }

        /// <summary>Computes the next token; the first call also computes the prompt.</summary>
        /// <returns>A token, or the last event, which has a finish reason.</returns>
        /// <exception cref="FlexqException">Cancelled, DeadlineExceeded, ContextFull, NonFinite,
        /// InvalidState (not started, or after the last event).</exception>
        public TokenEvent Next()
        {
            using (NativeHandle.Lease generator = Handle.Acquire())
            using (var next = new flexq_token_event())
            {
                FlexqNative.flexq_generator_next(generator.Pointer, next);
                return new TokenEvent(next);
            }
        }

        /// <summary>The events of the answer, computed as they are asked for, the last one
        /// included. Leaving the loop early cancels the generator; the context goes on.</summary>
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

        /// <summary>Generates to the end of the answer.</summary>
        /// <param name="onEvent">Called for each event on this thread, the last one included; may
        /// be null. It may call Cancel, nothing else on this generator or its context. What it
        /// throws ends the answer and is thrown to the caller as it is.</param>
        /// <returns>Why it ended.</returns>
        /// <exception cref="FlexqException">Cancelled, DeadlineExceeded, ContextFull, NonFinite,
        /// InvalidState.</exception>
        public FinishReason Run(Action<TokenEvent> onEvent = null)
        {
            Func<TokenEvent, bool> each = null;
            if (onEvent != null)
            {
                each = next =>
                {
                    onEvent(next);
                    return true;
                };
            }
            return RunNative(each, CancellationToken.None);
        }

        /// <summary><see cref="Run"/> for as long as the callback says so.</summary>
        /// <param name="onEvent">Returns true to go on; false ends the answer.</param>
        /// <returns>Why it ended; <see cref="FinishReason.Cancelled"/> where the callback ended it.
        /// </returns>
        public FinishReason RunWhile(Func<TokenEvent, bool> onEvent)
        {
            if (onEvent == null)
            {
                throw new ArgumentNullException(nameof(onEvent));
            }
            return RunNative(onEvent, CancellationToken.None);
        }

        /// <summary><see cref="Run"/> on another thread, which has the context until the task has
        /// ended.</summary>
        /// <param name="onEvent">Called on that thread; may be null.</param>
        /// <param name="cancellation">Cancels the generator, within one token; the task then ends
        /// as cancelled.</param>
        /// <returns>Why the answer ended.</returns>
        public Task<FinishReason> RunAsync(Action<TokenEvent> onEvent = null,
            CancellationToken cancellation = default(CancellationToken))
        {
            return Task.Factory.StartNew(
                () =>
                {
                    using (cancellation.Register(CancelUnlessDisposed))
                    {
                        return RunNative(
                            next =>
                            {
                                onEvent?.Invoke(next);
                                return true;
                            },
                            cancellation);
                    }
                },
                cancellation, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        }

        /// <summary>From any thread: ends this generator's call, in the prompt too, with Cancelled.
        /// A cancel before the start is not lost; no other generator sees it.</summary>
        public void Cancel()
        {
            using (NativeHandle.Lease generator = Handle.Acquire())
            {
                FlexqNative.flexq_generator_cancel(generator.Pointer);
            }
        }

        /// <summary>The prompt's token ids.</summary>
        /// <returns>BOS included.</returns>
        public int[] PromptTokens()
        {
            using (NativeHandle.Lease generator = Handle.Acquire())
            {
                IntPtr pointer = generator.Pointer;
                return Buffers.Tokens(256, (int[] tokens, int capacity, out int length) =>
                    FlexqNative.flexq_generator_prompt_tokens(
                        pointer, tokens, capacity, out length));
            }
        }

        /// <summary>The generated token ids so far.</summary>
        /// <returns>Token ids.</returns>
        public int[] Tokens()
        {
            using (NativeHandle.Lease generator = Handle.Acquire())
            {
                IntPtr pointer = generator.Pointer;
                return Buffers.Tokens(256, (int[] tokens, int capacity, out int length) =>
                    FlexqNative.flexq_generator_tokens(pointer, tokens, capacity, out length));
            }
        }

        /// <summary>The generated text so far, cut at a stop text.</summary>
        /// <returns>Whole characters.</returns>
        public string Text()
        {
            return Utf8.Text(TextUtf8());
        }

        /// <summary><see cref="Text"/> as the library has it.</summary>
        /// <returns>UTF-8.</returns>
        public byte[] TextUtf8()
        {
            using (NativeHandle.Lease generator = Handle.Acquire())
            {
                IntPtr pointer = generator.Pointer;
                return Buffers.Bytes(1024, (byte[] text, long capacity, out long length) =>
                    FlexqNative.flexq_generator_text(pointer, text, capacity, out length));
            }
        }

        /// <summary>Cancels a call that runs on another thread and lets no new one in; frees when
        /// that call has ended. Twice is once.</summary>
        public void Dispose()
        {
            CancelUnlessDisposed();
            Handle.Dispose();
        }

        private static GeneratorStats ReadStats(IntPtr generator)
        {
            using (var stats = new flexq_generator_stats())
            {
                FlexqNative.flexq_generator_get_stats(generator, stats);
                return new GeneratorStats(stats);
            }
        }

        private FinishReason RunNative(
            Func<TokenEvent, bool> onEvent, CancellationToken cancellation)
        {
            using (NativeHandle.Lease generator = Handle.Acquire())
            using (var callbacks = new Callbacks(cancellation) { Token = onEvent })
            {
                IntPtr pointer = generator.Pointer;
                try
                {
                    callbacks.Call(() => FlexqNative.flexq_generator_run(
                        pointer, callbacks.NativeToken, callbacks.UserData));
                }
                catch (FlexqException stopped)
                    when (stopped.Code == ErrorCode.StoppedByCallback)
                {
                    cancellation.ThrowIfCancellationRequested();
                }
                return ReadStats(pointer).FinishReason;
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
