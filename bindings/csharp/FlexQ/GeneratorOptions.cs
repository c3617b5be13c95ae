using System;
using System.Collections.Generic;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>How an answer is made and what ends it. Read when it is used, so that it may be
    /// changed and used again; a value that the library does not take makes that call throw.
    /// </summary>
    public sealed class GeneratorOptions
    {
        private readonly List<KeyValuePair<Tokenizer, string>> _chatStops =
            new List<KeyValuePair<Tokenizer, string>>();

        /// <summary>Sequence of the context to write to (default 0). For requests an engine chooses
        /// it.</summary>
        public int Sequence { get; set; }

        /// <summary>Most tokens to generate (default 256; 0: until the context is full).</summary>
        public int MaxTokens { get; set; } = 256;

        /// <summary>How tokens are drawn; null (default): always the most probable one.</summary>
        public SamplingOptions Sampling { get; set; }

        /// <summary>The answer ends before the first of these, wherever token borders lie. Up to 64
        /// of 1 to 1,024 bytes in UTF-8.</summary>
        public IList<string> StopTexts { get; } = new List<string>();

        /// <summary>The answer ends at these tokens, as at the model's own end tokens.</summary>
        public IList<int> StopTokens { get; } = new List<int>();

        /// <summary>Goes on after end tokens and stop tokens (default false).</summary>
        public bool IgnoreEnd { get; set; }

        /// <summary>Time from Start, of a request from Submit, after which the answer ends with
        /// <see cref="ErrorCode.DeadlineExceeded"/>; in whole milliseconds. Null (default): none.
        /// </summary>
        public TimeSpan? Deadline { get; set; }

        /// <summary>Most probable tokens to report with every token, 0 (default) to 20.</summary>
        public int Alternatives { get; set; }

        /// <summary>What the answer must be: "text" (default): anything; "json": one JSON object,
        /// always whole. It is closed in time where MaxTokens or the context length is near; only a
        /// cancellation, a deadline, a stop text and an error cut it off.</summary>
        public string Format { get; set; } = "text";

        /// <summary>For requests to an engine, -100 to 100 (default 0); a generator ignores it.
        /// </summary>
        public int Priority { get; set; }

        /// <summary>Ends the answer at all that ends one in a chat format.</summary>
        /// <param name="tokenizer">Must not be disposed before the generator is created.</param>
        /// <param name="templateName">As in <see cref="Tokenizer.EncodeChat"/>.</param>
        public void AddChatStops(Tokenizer tokenizer, string templateName = null)
        {
            if (tokenizer == null)
            {
                throw new ArgumentNullException(nameof(tokenizer));
            }
            _chatStops.Add(new KeyValuePair<Tokenizer, string>(tokenizer, templateName));
        }

        /// <summary>For one native call.</summary>
        internal static NativeHandle ToNative(GeneratorOptions options)
        {
            options = options ?? new GeneratorOptions();
            return new NativeHandle(nameof(GeneratorOptions),
                (out IntPtr handle) => FlexqNative.flexq_generator_options_create(out handle),
                FlexqNative.flexq_generator_options_release)
                .With(options.CopyTo);
        }

        private void CopyTo(IntPtr handle)
        {
            FlexqNative.flexq_generator_options_set_sequence(handle, Sequence);
            FlexqNative.flexq_generator_options_set_max_tokens(handle, MaxTokens);
            FlexqNative.flexq_generator_options_set_ignore_end(handle, IgnoreEnd ? 1 : 0);
            FlexqNative.flexq_generator_options_set_log_probs(handle, Alternatives);
            FlexqNative.flexq_generator_options_set_format(
                handle, Utf8.Name(Format, nameof(Format)));
            FlexqNative.flexq_generator_options_set_priority(handle, Priority);
            if (Deadline.HasValue)
            {
                FlexqNative.flexq_generator_options_set_deadline(
                    handle, (long)Math.Ceiling(Deadline.Value.TotalMilliseconds));
            }
            if (Sampling != null)
            {
                using (NativeHandle options = Sampling.ToNative())
                using (NativeHandle.Lease sampling = options.Acquire())
                {
                    FlexqNative.flexq_generator_options_set_sampling(handle, sampling.Pointer);
                }
            }
            CopyStopsTo(handle);
        }

        private void CopyStopsTo(IntPtr handle)
        {
            foreach (string text in StopTexts)
            {
                byte[] bytes = Utf8.Text(text, nameof(StopTexts));
                FlexqNative.flexq_generator_options_add_stop(handle, bytes, bytes.Length);
            }
            foreach (int token in StopTokens)
            {
                FlexqNative.flexq_generator_options_add_stop_token(handle, token);
            }
            foreach (KeyValuePair<Tokenizer, string> stops in _chatStops)
            {
                using (NativeHandle.Lease tokenizer = stops.Key.Handle.Acquire())
                {
                    FlexqNative.flexq_generator_options_add_chat_stops(
                        handle, tokenizer.Pointer, Utf8.Name(stops.Value, "templateName"));
                }
            }
        }
    }
}
