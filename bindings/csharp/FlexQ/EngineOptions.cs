using System;
using System.Collections.Generic;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>How an engine works. Read when it is used, so that it may be changed and used
    /// again; a value that the library does not take makes that call throw. Null: the default.
    /// </summary>
    public sealed class EngineOptions
    {
        /// <summary>Most tokens of a step, up to the context's chunk. Default: the context's chunk.
        /// Fewer make answers under way smoother while prompts are computed, and prompts slower.
        /// Never fewer than one for each answer under way.</summary>
        public int? StepTokens { get; set; }

        /// <summary>Most requests that wait for a place, 0 to 2^20. Default: 1024. One more is
        /// <see cref="ErrorCode.QueueFull"/>.</summary>
        public int? Queue { get; set; }

        /// <summary>Rare options by name: "prefix_reuse"; see flexq_engine_options_set in flexq.h.
        /// </summary>
        public IDictionary<string, string> Named { get; } = new Dictionary<string, string>();

        /// <summary>For one native call.</summary>
        internal static NativeHandle ToNative(EngineOptions options)
        {
            options = options ?? new EngineOptions();
            return new NativeHandle(nameof(EngineOptions),
                (out IntPtr handle) => FlexqNative.flexq_engine_options_create(out handle),
                FlexqNative.flexq_engine_options_release)
                .With(options.CopyTo);
        }

        private void CopyTo(IntPtr handle)
        {
            if (StepTokens.HasValue)
            {
                FlexqNative.flexq_engine_options_set_step_tokens(handle, StepTokens.Value);
            }
            if (Queue.HasValue)
            {
                FlexqNative.flexq_engine_options_set_queue(handle, Queue.Value);
            }
            foreach (KeyValuePair<string, string> option in Named)
            {
                FlexqNative.flexq_engine_options_set(
                    handle, Utf8.Name(option.Key, nameof(Named)),
                    Utf8.Name(option.Value, nameof(Named)));
            }
        }
    }
}
