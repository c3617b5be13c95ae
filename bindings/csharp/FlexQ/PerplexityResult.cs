using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Perplexity of a text. Immutable.</summary>
    public sealed class PerplexityResult
    {
        internal PerplexityResult(flexq_perplexity_result native)
        {
            Windows = native.n_windows;
            WindowTokens = native.window_tokens;
            TokenCount = native.n_tokens;
            MeanNll = native.mean_nll;
            Perplexity = native.perplexity;
        }

        /// <summary>Windows computed.</summary>
        public int Windows { get; }

        /// <summary>Tokens in each.</summary>
        public int WindowTokens { get; }

        /// <summary>Tokens of the whole text, BOS included.</summary>
        public long TokenCount { get; }

        /// <summary>Mean negative log likelihood over the WindowTokens - 1 targets of every window,
        /// nats.</summary>
        public double MeanNll { get; }

        /// <summary>exp(MeanNll).</summary>
        public double Perplexity { get; }
    }
}
