using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>What a context did and holds. Immutable.</summary>
    public sealed class ContextCounters
    {
        internal ContextCounters(flexq_context_counters native)
        {
            PagesTotal = native.pages_total;
            PagesUsed = native.pages_used;
            SequencesUsed = native.n_sequences_used;
            TokensComputed = native.tokens_computed;
            ForwardCalls = native.forward_calls;
            ComputeNanoseconds = native.compute_ns;
            PagesCopied = native.pages_copied;
        }

        /// <summary>Pages of the KV cache.</summary>
        public int PagesTotal { get; }

        /// <summary>Pages in use; shared pages count once.</summary>
        public int PagesUsed { get; }

        /// <summary>Sequences with at least one token.</summary>
        public int SequencesUsed { get; }

        /// <summary>Tokens that went through the model since creation.</summary>
        public long TokensComputed { get; }

        /// <summary>Chunks computed.</summary>
        public long ForwardCalls { get; }

        /// <summary>Time inside the model.</summary>
        public long ComputeNanoseconds { get; }

        /// <summary>Copies on write after forks.</summary>
        public long PagesCopied { get; }
    }
}
