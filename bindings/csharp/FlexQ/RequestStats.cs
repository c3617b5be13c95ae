using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Times and counts of a request. Immutable.</summary>
    public sealed class RequestStats
    {
        internal RequestStats(flexq_request_stats native)
        {
            FinishReason = (FinishReason)native.finish_reason;
            PromptTokenCount = native.n_prompt_tokens;
            ReusedTokenCount = native.n_reused_tokens;
            GeneratedTokenCount = native.n_generated_tokens;
            PreemptionCount = native.n_preemptions;
            QueuedNanoseconds = native.queued_ns;
            TimeToFirstTokenNanoseconds = native.time_to_first_token_ns;
            TotalNanoseconds = native.total_ns;
            TokensPerSecond = native.tokens_per_second;
        }

        /// <summary>Why it ended; None while it waits or runs.</summary>
        public FinishReason FinishReason { get; }

        /// <summary>BOS included.</summary>
        public int PromptTokenCount { get; }

        /// <summary>Of the prompt: taken over from other requests.</summary>
        public int ReusedTokenCount { get; }

        /// <summary>An end token is not counted.</summary>
        public int GeneratedTokenCount { get; }

        /// <summary>How often its pages were given up and computed again.</summary>
        public int PreemptionCount { get; }

        /// <summary>From Submit until it had a place.</summary>
        public long QueuedNanoseconds { get; }

        /// <summary>From Submit; 0: none yet.</summary>
        public long TimeToFirstTokenNanoseconds { get; }

        /// <summary>From Submit to the end, or until now.</summary>
        public long TotalNanoseconds { get; }

        /// <summary>After the first token; 0 before the second.</summary>
        public double TokensPerSecond { get; }
    }
}
