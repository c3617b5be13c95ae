using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Times and counts of an answer. Immutable.</summary>
    public sealed class GeneratorStats
    {
        internal GeneratorStats(flexq_generator_stats native)
        {
            FinishReason = (FinishReason)native.finish_reason;
            PromptTokenCount = native.n_prompt_tokens;
            GeneratedTokenCount = native.n_generated_tokens;
            PrefillNanoseconds = native.prefill_ns;
            DecodeNanoseconds = native.decode_ns;
            TimeToFirstTokenNanoseconds = native.time_to_first_token_ns;
        }

        /// <summary>Why it ended.</summary>
        public FinishReason FinishReason { get; }

        /// <summary>Computed for this prompt, BOS included.</summary>
        public int PromptTokenCount { get; }

        /// <summary>An end token is not counted.</summary>
        public int GeneratedTokenCount { get; }

        /// <summary>The prompt, until its logits are there.</summary>
        public long PrefillNanoseconds { get; }

        /// <summary>All later forward passes and sampling.</summary>
        public long DecodeNanoseconds { get; }

        /// <summary>From Start.</summary>
        public long TimeToFirstTokenNanoseconds { get; }
    }
}
