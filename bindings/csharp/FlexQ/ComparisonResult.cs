using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>What differs between model A, the reference, and model B on a text.
    /// Immutable.</summary>
    public sealed class ComparisonResult
    {
        internal ComparisonResult(flexq_comparison_result native)
        {
            Windows = native.n_windows;
            WindowTokens = native.window_tokens;
            TokenCount = native.n_tokens;
            Positions = native.n_positions;
            SameTop1 = native.n_same_top1;
            Lost = native.n_lost;
            Gained = native.n_gained;
            MeanNllA = native.mean_nll_a;
            MeanNllB = native.mean_nll_b;
            PerplexityA = native.perplexity_a;
            PerplexityB = native.perplexity_b;
            MeanKl = native.mean_kl;
        }

        /// <summary>Windows computed.</summary>
        public int Windows { get; }

        /// <summary>Tokens in each.</summary>
        public int WindowTokens { get; }

        /// <summary>Tokens of the whole text, BOS included.</summary>
        public long TokenCount { get; }

        /// <summary>Compared: WindowTokens - 1 in every window.</summary>
        public long Positions { get; }

        /// <summary>Positions where both find the same token most probable.</summary>
        public long SameTop1 { get; }

        /// <summary>Of the others: where A names the text's next token and B does not.</summary>
        public long Lost { get; }

        /// <summary>Of the others: where B names it and A does not.</summary>
        public long Gained { get; }

        /// <summary>Nats per position.</summary>
        public double MeanNllA { get; }

        /// <summary>Nats per position.</summary>
        public double MeanNllB { get; }

        /// <summary>exp(MeanNllA).</summary>
        public double PerplexityA { get; }

        /// <summary>exp(MeanNllB).</summary>
        public double PerplexityB { get; }

        /// <summary>Mean over positions of KL(A || B), nats.</summary>
        public double MeanKl { get; }
    }
}
