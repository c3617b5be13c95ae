using System;
using System.Collections.Generic;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Sizes of a context. Read when it is used, so that it may be changed and used again;
    /// a value that the library does not take makes that call throw. Null: the default.</summary>
    public sealed class ContextOptions
    {
        /// <summary>Longest sequence in tokens. Default: 4096, or what the model was trained for
        /// where that is less.</summary>
        public int? ContextTokens { get; set; }

        /// <summary>Sequences 0 .. n - 1 that can live side by side. Default: 1.</summary>
        public int? Sequences { get; set; }

        /// <summary>Tokens computed at once. Default: 256, on CUDA 1024. Longer input is cut into
        /// chunks of this size, between which cancels and deadlines are seen.</summary>
        public int? ChunkTokens { get; set; }

        /// <summary>Tokens that the KV cache holds over all sequences. Default: sequences times
        /// context tokens.</summary>
        public int? CacheTokens { get; set; }

        /// <summary>Rows of logits or embeddings that one decode may ask for. Default: one per
        /// sequence.</summary>
        public int? Outputs { get; set; }

        /// <summary>Rare options by name: "kv_type", "poison"; see flexq_context_options_set in
        /// flexq.h.</summary>
        public IDictionary<string, string> Named { get; } = new Dictionary<string, string>();

        /// <summary>For one native call.</summary>
        internal static NativeHandle ToNative(ContextOptions options)
        {
            options = options ?? new ContextOptions();
            return new NativeHandle(nameof(ContextOptions),
                (out IntPtr handle) => FlexqNative.flexq_context_options_create(out handle),
                FlexqNative.flexq_context_options_release)
                .With(options.CopyTo);
        }

        private void CopyTo(IntPtr handle)
        {
            Set(handle, ContextTokens, FlexqNative.flexq_context_options_set_context_tokens);
            Set(handle, Sequences, FlexqNative.flexq_context_options_set_sequences);
            Set(handle, ChunkTokens, FlexqNative.flexq_context_options_set_chunk_tokens);
            Set(handle, CacheTokens, FlexqNative.flexq_context_options_set_cache_tokens);
            Set(handle, Outputs, FlexqNative.flexq_context_options_set_outputs);
            foreach (KeyValuePair<string, string> option in Named)
            {
                FlexqNative.flexq_context_options_set(
                    handle, Utf8.Name(option.Key, nameof(Named)),
                    Utf8.Name(option.Value, nameof(Named)));
            }
        }

        private static void Set(IntPtr handle, int? value, Action<IntPtr, int> set)
        {
            if (value.HasValue)
            {
                set(handle, value.Value);
            }
        }
    }
}
