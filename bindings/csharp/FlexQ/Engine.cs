using System;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Answers many requests over one context, from any number of threads. A native thread
    /// of its own runs step after step: one token for every answer under way, and the next pieces
    /// of prompts. The context has as many places as sequences; further requests wait, in the order
    /// in which they came, each level of <see cref="GeneratorOptions.Priority"/> counting as one
    /// second earlier. A request's tokens are those that a <see cref="Generator"/> would draw on an
    /// empty sequence, whatever else is under way. A prompt that begins as an earlier one did takes
    /// over what was computed for it. A failure that concerns one request ends no other.</summary>
    public sealed class Engine : IDisposable
    {
        internal Engine(Context context, EngineOptions options)
        {
            using (NativeHandle.Lease contextLease = context.Handle.Acquire())
            using (NativeHandle optionsHandle = EngineOptions.ToNative(options))
            using (NativeHandle.Lease optionsLease = optionsHandle.Acquire())
            {
                Handle = new NativeHandle(nameof(Engine),
                    (out IntPtr handle) => FlexqNative.flexq_engine_create(
                        contextLease.Pointer, optionsLease.Pointer, out handle),
                    FlexqNative.flexq_engine_release);
            }
        }

        private delegate void Submitter(IntPtr engine, IntPtr options, out IntPtr request);

        /// <summary>What the engine has done since it was created, and what it is doing: as of the
        /// end of its last step.</summary>
        public EngineMetrics Metrics
        {
            get
            {
                using (NativeHandle.Lease engine = Handle.Acquire())
                using (var metrics = new flexq_engine_metrics())
                {
                    FlexqNative.flexq_engine_get_metrics(engine.Pointer, metrics);
                    return new EngineMetrics(metrics);
                }
            }
        }

        internal NativeHandle Handle { get; }

        /// <summary>Queues a request and returns; the deadline counts from here.</summary>
        /// <param name="prompt">Any text of at least one token.</param>
        /// <param name="options">Null: the defaults.</param>
        /// <param name="flags">Whether BOS is added, whether special tokens are read.</param>
        /// <returns>A request to be disposed by the caller.</returns>
        /// <exception cref="FlexqException">QueueFull (try again later), InvalidArgument (a prompt
        /// without a token; a sequence, which the engine chooses), ContextFull (a prompt that the
        /// context length or the whole KV cache cannot hold), NotFound (no tokenizer), DeviceLost.
        /// </exception>
        public Request Submit(string prompt, GeneratorOptions options = null,
            EncodeFlags flags = EncodeFlags.Default)
        {
            byte[] text = Utf8.Text(prompt, nameof(prompt));
            return SubmitNative(options, (IntPtr engine, IntPtr with, out IntPtr request) =>
                FlexqNative.flexq_engine_submit(
                    engine, with, text, text.Length, (int)flags, out request));
        }

        /// <summary>Queues a request whose prompt is token ids, and returns.</summary>
        /// <param name="tokens">At least one.</param>
        /// <param name="options">Null: the defaults.</param>
        /// <returns>A request to be disposed by the caller.</returns>
        /// <exception cref="FlexqException">As <see cref="Submit"/>; InvalidArgument also for a
        /// token outside the vocabulary.</exception>
        public Request SubmitTokens(int[] tokens, GeneratorOptions options = null)
        {
            Buffers.NotNull(tokens, nameof(tokens));
            return SubmitNative(options, (IntPtr engine, IntPtr with, out IntPtr request) =>
                FlexqNative.flexq_engine_submit_tokens(
                    engine, with, tokens, tokens.Length, out request));
        }

        /// <summary>Queues a conversation that the model is to go on with, and returns. What ends
        /// an answer in its format is added to what the options name.</summary>
        /// <param name="chat">At least one message.</param>
        /// <param name="templateName">Null: the model's own.</param>
        /// <param name="options">Null: the defaults.</param>
        /// <returns>A request to be disposed by the caller.</returns>
        /// <exception cref="FlexqException">As <see cref="Submit"/> and
        /// <see cref="Tokenizer.EncodeChat"/>.</exception>
        public Request SubmitChat(
            Chat chat, string templateName = null, GeneratorOptions options = null)
        {
            if (chat == null)
            {
                throw new ArgumentNullException(nameof(chat));
            }
            byte[] name = Utf8.Name(templateName, nameof(templateName));
            return SubmitNative(options, (IntPtr engine, IntPtr with, out IntPtr request) =>
            {
                using (NativeHandle.Lease messages = chat.Handle.AcquireAlone())
                {
                    FlexqNative.flexq_engine_submit_chat(
                        engine, with, name, messages.Pointer, out request);
                }
            });
        }

        /// <summary>Cancels every request and waits for the step under way, which is given up
        /// between two layers. Requests stay readable; the context is free again. Not from a log
        /// callback. Twice is once.</summary>
        public void Dispose()
        {
            Handle.Dispose();
        }

        private Request SubmitNative(GeneratorOptions options, Submitter submit)
        {
            using (NativeHandle.Lease engine = Handle.Acquire())
            using (NativeHandle optionsHandle = GeneratorOptions.ToNative(options))
            using (NativeHandle.Lease optionsLease = optionsHandle.Acquire())
            {
                return new Request(this, (out IntPtr request) =>
                    submit(engine.Pointer, optionsLease.Pointer, out request));
            }
        }
    }
}
